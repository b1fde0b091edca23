import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type Scope, scopes } from '../../src/api/actor.ts';
import { type App, engines, PROMOTE_SECRET, startApp } from '../harness.ts';
import { inputFor, inputs, type Subject } from './inputs.ts';
import { callProcedure, type Outcome, type Procedure, procedures, transports } from './procedures.ts';
import { World } from './world.ts';

/** `owner` calls about his own rows; everybody else about those rows too. */
const actors = ['anonymous', 'blocked', 'stranger', 'owner', 'key without scope', 'key with scope', 'admin'] as const;
type ActorName = (typeof actors)[number];
type Expectation = 200 | readonly [status: number, code: string];
type Row = Readonly<Record<ActorName, Expectation>>;

const unknown: Expectation = [401, 'not_authenticated'];
const inactive: Expectation = [403, 'user_not_active'];
const forbidden: Expectation = [403, 'not_allowed'];
const unscoped: Expectation = [403, 'scope_required'];
const notAdmin: Expectation = [403, 'admin_required'];
const unpaid: Expectation = [403, 'no_active_subscription'];
const noPromotion: Expectation = [403, 'promotion_refused'];
const noSession: Expectation = [404, 'session_not_found'];

/** The rules of the contract, by who a procedure is for. */
function ruleFor({ meta }: Procedure): Row {
  const allKeys = (outcome: Expectation) => ({ 'key without scope': outcome, 'key with scope': outcome });
  const persons = { anonymous: unknown, blocked: inactive };
  const keys: Pick<Row, 'key without scope' | 'key with scope'> =
    meta.scope === undefined ? allKeys(forbidden) : { 'key without scope': unscoped, 'key with scope': 200 };
  switch (meta.access) {
    case 'public':
      return { anonymous: 200, blocked: 200, stranger: 200, owner: 200, ...allKeys(200), admin: 200 };
    case 'person':
      return { ...persons, stranger: 200, owner: 200, ...allKeys(forbidden), admin: 200 };
    case 'account':
      return { ...persons, stranger: 200, owner: 200, ...keys, admin: 200 };
    case 'admin':
      return { ...persons, stranger: notAdmin, owner: notAdmin, ...keys, admin: 200 };
    default:
      throw new Error('a procedure without an access rule');
  }
}

const everybody = (outcome: Expectation) => Object.fromEntries(actors.map((actor) => [actor, outcome]));

/** Where a procedure differs from its rule: another's row, another's user_id, what is closed to all. */
const exceptions: Readonly<Record<string, Partial<Row>>> = {
  // The secret was spent when the world was made: it works once.
  'auth.promote': {
    anonymous: noPromotion,
    blocked: inactive,
    stranger: noPromotion,
    owner: noPromotion,
    'key without scope': forbidden,
    'key with scope': forbidden,
  },
  'auth.revokeSession': { stranger: noSession, admin: noSession },
  'auth.subscribe': {
    stranger: [403, 'self_subscribe_disabled'],
    owner: [403, 'self_subscribe_disabled'],
    admin: [403, 'self_subscribe_disabled'],
  },
  'user.state': { stranger: forbidden },
  'peer.createSelf': { stranger: unpaid, admin: unpaid },
  'peer.selfConfig': { stranger: unpaid, admin: unpaid },
  'peer.create': { stranger: forbidden },
  'payment.create': { stranger: forbidden },
  'payment.quote': { stranger: forbidden },
  'subscription.startTrial': { stranger: forbidden },
  'payment.update': everybody(forbidden),
  'payment.remove': everybody(forbidden),
};

/** A row that is not the caller's is answered as one that does not exist. */
const hiddenRow: Readonly<Record<string, Expectation>> = {
  peer_id: [404, 'peer_not_found'],
  payment_id: [404, 'payment_not_found'],
};

function expectations(procedure: Procedure): Row {
  const rowKey = procedure.route.pathKeys.find((key) => Object.hasOwn(hiddenRow, key));
  const hidden = procedure.meta.access === 'account' && rowKey !== undefined ? hiddenRow[rowKey] : undefined;
  return {
    ...ruleFor(procedure),
    ...(hidden === undefined ? {} : { stranger: hidden }),
    ...exceptions[procedure.name],
  };
}

function actorsOf(procedure: Procedure) {
  const expected = expectations(procedure);
  return {
    allowed: actors.filter((actor) => expected[actor] === 200),
    refused: actors.filter((actor) => expected[actor] !== 200),
  };
}

/** Keys that no answer may ever have, at any depth. */
const SECRET_KEYS =
  /password|hash|sealed|secret|pepper|preshared|token_version|^raw|raw_body|lease|dedupe|lock|snapshot|submitted_key/;
/** Where a secret is the very thing that was asked for. */
const HANDED_OUT: Readonly<Record<string, readonly string[]>> = {
  wg_private_key: ['peer.createSelf', 'peer.create', 'peer.rotate'],
  key: ['apiKey.create'],
  access_token: ['auth.login', 'auth.refresh', 'auth.changePassword'],
  refresh_token: ['auth.login', 'auth.refresh', 'auth.changePassword'],
  wg_quick: ['peer.config', 'peer.selfConfig'],
  secret: ['webhookEndpoint.create', 'webhookEndpoint.rotateSecret'],
};

describe('the tables of this test', () => {
  test('have an input for every procedure and for nothing else', () => {
    expect(Object.keys(inputs).sort()).toEqual(procedures.map(({ name }) => name).sort());
  });

  test('hold only inputs and exceptions of procedures that exist', () => {
    const names = new Set(procedures.map(({ name }) => name));
    expect(Object.keys(exceptions).filter((name) => !names.has(name))).toEqual([]);
  });
});

describe('the shapes of answers', () => {
  test('change only on purpose', () => {
    expect(Object.fromEntries(procedures.map(({ name, output }) => [name, keysOfSchema(output)]))).toMatchSnapshot();
  });

  test.each(procedures)('of $name have no secret', ({ name, output }) => {
    const keys = keysOfSchema(output).map(lastOf);
    expect(keys.filter((key) => SECRET_KEYS.test(key) && !Object.hasOwn(HANDED_OUT, key))).toEqual([]);
    const handedOut = keys.filter((key) => Object.hasOwn(HANDED_OUT, key) && key !== 'wg_private_key');
    expect(handedOut.filter((key) => !HANDED_OUT[key]?.includes(name))).toEqual([]);
  });
});

describe.each(engines)('who may call what on %s', (engine) => {
  let app: App;
  let stage: Stage;
  beforeAll(async () => {
    app = await startApp({ engine });
    stage = await Stage.open(app);
  });
  afterAll(() => app[Symbol.asyncDispose]());

  test.each(procedures.filter((procedure) => actorsOf(procedure).refused.length > 0))(
    '$name refuses who may not call it, and leaves no trace',
    async (procedure) => {
      const expected = expectations(procedure);
      const subject = await stage.subject();
      const input = await inputFor(procedure.name, subject);
      const tokens = new Map<ActorName, string | undefined>();
      for (const actor of actorsOf(procedure).refused) tokens.set(actor, await stage.token(actor, procedure, subject));
      const before = await stage.fingerprint();
      for (const [actor, token] of tokens) {
        for (const transport of transports) {
          const outcome = await callProcedure(app, transport, procedure, input, { token });
          expect([outcome.status, outcome.code], `${actor} over ${transport}`).toEqual(expected[actor]);
          expect(outcome.problem?.request_id, `${actor} over ${transport}`).toMatch(/./);
        }
      }
      expect(await stage.fingerprint()).toEqual(before);
    },
  );

  test.each(procedures.filter((procedure) => actorsOf(procedure).allowed.length > 0))(
    '$name answers all who may call it alike, with nothing but its schema',
    async (procedure) => {
      for (const actor of actorsOf(procedure).allowed) {
        for (const transport of transports) {
          const subject = await stage.subject();
          const input = await inputFor(procedure.name, subject);
          const token = await stage.token(actor, procedure, subject);
          const outcome = await callProcedure(app, transport, procedure, input, { token });
          expect(outcome.status, `${actor} over ${transport}: ${outcome.text}`).toBe(200);
          expectCleanAnswer(procedure, outcome);
        }
      }
    },
  );

  test('lists hold own rows only, and naming another is refused', async () => {
    const { owner } = await stage.subject();
    const stranger = await stage.world.account();
    const own = { peer: await stage.world.peer(stranger.id), payment: await stage.world.payment(stranger.id) };
    await stage.world.peer(owner.id);
    await stage.world.payment(owner.id);
    const { token } = stranger;
    for (const [path, id] of [['/vpn_peers', own.peer] as const, ['/payments', own.payment] as const]) {
      const list = await app.rest<{ id: number; user_id: number }[]>('GET', `${path}?with_total=true`, { token });
      expect(list.body.map((row) => row.id)).toEqual([id]);
      expect(list.headers.get('x-total-count')).toBe('1');
      const named = await app.rest('GET', `${path}?user_id=${owner.id}`, { token });
      expect([named.status, named.body.code]).toEqual([403, 'not_allowed']);
    }
    const sessions = await app.rest<{ id: number }[]>('GET', '/auth/sessions', { token });
    expect(sessions.body.map((row) => row.id)).toEqual([stranger.sessionId]);
  });

  test('a service acts for users and never on admins', async () => {
    const admin = await stage.world.account({ isAdmin: true });
    const key = await stage.world.apiKey(...scopes);
    await stage.world.subscribe(admin.id);
    const calls: [string, Record<string, unknown>][] = [
      ['/subscriptions/grant', { user_id: admin.id, tariff_id: stage.world.tariff.id }],
      ['/auth/assign_tariff', { user_id: admin.id, tariff_id: stage.world.tariff.id }],
      ['/payments/create', { user_id: admin.id, tariff_id: stage.world.tariff.id, provider: 'standard' }],
      ['/vpn_peers', { user_id: admin.id }],
    ];
    const before = await stage.fingerprint();
    for (const [path, body] of calls) {
      const answer = await app.rest('POST', path, { token: key, body });
      expect([answer.status, answer.body.code], path).toEqual([403, 'not_allowed']);
    }
    expect(await stage.fingerprint()).toEqual(before);
  });
});

/** The people and keys that call, made once for a server. */
class Stage {
  readonly world: World;
  readonly #stranger: string;
  readonly #blocked: string;
  readonly #keys = new Map<string, Promise<string>>();

  static async open(app: App): Promise<Stage> {
    const world = await World.open(app);
    const { id } = await world.account();
    await app.rest('POST', '/auth/admin/promote', { body: { user_id: id, secret: PROMOTE_SECRET } });
    return new Stage(world, { stranger: (await world.account()).token, blocked: (await world.blocked()).token });
  }

  private constructor(world: World, { stranger, blocked }: { stranger: string; blocked: string }) {
    this.world = world;
    this.#stranger = stranger;
    this.#blocked = blocked;
  }

  async subject(): Promise<Subject> {
    return { world: this.world, owner: await this.world.account() };
  }

  /** A token of the actor; where the call may succeed it is one that nothing else depends on. */
  async token(actor: ActorName, procedure: Procedure, { owner }: Subject): Promise<string | undefined> {
    const mayEndSession = expectations(procedure)[actor] === 200 && procedure.meta.access === 'person';
    switch (actor) {
      case 'anonymous':
        return undefined;
      case 'blocked':
        return this.#blocked;
      case 'stranger':
        return mayEndSession ? (await this.world.account()).token : this.#stranger;
      case 'owner':
        return owner.token;
      case 'key without scope':
        return this.#key(scopes.filter((scope) => scope !== procedure.meta.scope));
      case 'key with scope':
        return this.#key(procedure.meta.scope === undefined ? scopes : [procedure.meta.scope]);
      case 'admin':
        return mayEndSession ? (await this.world.account({ isAdmin: true })).token : this.world.boss.token;
    }
  }

  #key(granted: readonly Scope[]): Promise<string> {
    const name = granted.join();
    const key = this.#keys.get(name) ?? this.world.apiKey(...granted);
    this.#keys.set(name, key);
    return key;
  }

  /** Every row that a call could have made or changed. */
  async fingerprint(): Promise<Record<string, unknown>> {
    const { app } = this.world;
    await app.settled();
    const tables = Object.keys(TABLES) as (keyof typeof TABLES)[];
    const rows = tables.map(async (table) => [table, await this.#rowsOf(table)] as const);
    return Object.fromEntries(await Promise.all(rows));
  }

  async #rowsOf(table: keyof typeof TABLES): Promise<unknown[]> {
    // Any name of the list would do: what is read is compared whole.
    const rows = await this.world.app.store.kysely
      .selectFrom(table as 'api_keys')
      .selectAll()
      .orderBy(TABLES[table] as 'id')
      .execute();
    return rows.map(({ last_used_at: _, ...row }) => row);
  }
}

/** Tables a caller can reach, with a column to order them by. */
const TABLES = {
  settings: 'key',
  users: 'id',
  sessions: 'id',
  api_keys: 'id',
  tariffs: 'id',
  tariff_prices: 'id',
  payments: 'id',
  payment_events: 'id',
  refunds: 'id',
  subscription_periods: 'id',
  peers: 'id',
  host_peers: 'id',
  idempotency_keys: 'id',
  audit_log: 'id',
  trial_claims: 'user_id',
  outbox_events: 'id',
  webhook_endpoints: 'id',
  webhook_deliveries: 'id',
} as const;

function expectCleanAnswer(procedure: Procedure, outcome: Outcome): void {
  if (outcome.headers.get('content-type')?.startsWith('image/') === true) return;
  const { name, output } = procedure;
  expect(output.safeParse(outcome.data).error?.issues ?? [], name).toEqual([]);
  const allowed = new Set(keysOfSchema(output));
  const isAllowed = (path: string) => allowed.has(path) || (isOpen(path, allowed) && !SECRET_KEYS.test(lastOf(path)));
  expect(keysOfValue(outcome.data).filter((path) => !isAllowed(path))).toEqual([]);
  if (!HANDED_OUT.wg_private_key?.includes(name)) expect(outcome.text).not.toMatch(/"wg_private_key":"/);
}

function lastOf(path: string): string {
  return path.split('.').at(-1) ?? '';
}

/** Under a record the schema names no keys: what stands there is only held to have no secret. */
const ANY_KEY = '*';

function isOpen(path: string, allowed: ReadonlySet<string>): boolean {
  const parts = path.split('.');
  return parts.some((_, index) => allowed.has([...parts.slice(0, index), ANY_KEY].join('.')));
}

/** Paths of all keys of a schema, list items and alternatives included. */
function keysOfSchema(schema: z.core.$ZodType, path = ''): string[] {
  if (schema instanceof z.ZodObject) {
    return Object.entries(schema.shape).flatMap(([key, inner]) => [
      `${path}${key}`,
      ...keysOfSchema(inner as z.ZodType, `${path}${key}.`),
    ]);
  }
  if (schema instanceof z.ZodArray) return keysOfSchema(schema.element, path);
  if (schema instanceof z.ZodRecord) return [`${path}${ANY_KEY}`];
  if (schema instanceof z.ZodUnion) return [...new Set(schema.options.flatMap((option) => keysOfSchema(option, path)))];
  if (schema instanceof z.ZodNullable || schema instanceof z.ZodOptional) return keysOfSchema(schema.unwrap(), path);
  return [];
}

function keysOfValue(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => keysOfValue(item, path));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [`${path}${key}`, ...keysOfValue(inner, `${path}${key}.`)]);
}
