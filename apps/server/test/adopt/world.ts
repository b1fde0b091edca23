import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findPeer, listPeersForUser, type PeerRow, publishOutboxEvents, updateServer, updateUser } from '@vpn-api/db';
import { type ClientConfig, parseClientConfig } from '@vpn-api/wg';
import { startWgEasyStub, type WgEasyStub } from '@vpn-api/wg/testing';
import { expect, vi } from 'vitest';
import { runAdopt } from '../../src/cli/adopt.ts';
import { ok, sellTariff } from '../e2e/shop.ts';
import { type App, engines, type Person, startApp } from '../harness.ts';

export const cases = engines.flatMap((engine) => ([14, 15] as const).map((version) => ({ engine, version })));

/** A line of `adopt --json`. */
export interface Row {
  readonly publicKey: string;
  readonly name: string | null;
  readonly owner: string | null;
  readonly outcome: string;
  readonly deniedFor: string | null;
}

export interface Plan {
  readonly counts: { readonly add: number; readonly change: number; readonly suspend: number; readonly remove: number };
  readonly changes: readonly { readonly action: string; readonly public_key: string | null; readonly reason: string }[];
  readonly unchanged: number;
  readonly foreign: number;
  readonly conflicts: readonly unknown[];
}

export interface Printed {
  readonly rows: readonly Row[];
  readonly missing: readonly string[];
}

/** A running server that only observes its host, and the command beside it. */
export class Observer implements AsyncDisposable {
  readonly app: App;
  /** The one in the settings, until a test adds another over the API. */
  serverId = 1;
  readonly #stack: AsyncDisposableStack;
  readonly #folder: string;

  private constructor(app: App, { stack, folder }: { readonly stack: AsyncDisposableStack; readonly folder: string }) {
    this.app = app;
    this.#stack = stack;
    this.#folder = folder;
  }

  /** The command has the system's clock, so the server has it too. */
  static async start(engine: (typeof engines)[number], env: Readonly<Record<string, string>>): Promise<Observer> {
    await using stack = new AsyncDisposableStack();
    const folder = await mkdtemp(join(tmpdir(), 'vpn-adopt-'));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const app = stack.use(await startApp({ engine, clock: 'system', env }));
    await app.settled();
    return new Observer(app, { stack: stack.move(), folder });
  }

  /** A customer whose address is proven, with so many paid devices. */
  async customer(email: string, devices = 0): Promise<Person> {
    const person = await this.app.register(email);
    await updateUser(this.app.store, person.id, { email_verified_at: this.app.services.clock.now() });
    if (devices > 0) await this.pay(person.id, devices);
    return person;
  }

  async pay(user_id: number, devices: number): Promise<void> {
    const { token } = await this.app.admin();
    const tariff = await sellTariff(this.app, token, devices);
    await ok(this.app.rest('POST', '/subscriptions/grant', { token, body: { user_id, tariff_id: tariff.id } }));
  }

  /** A file for `--users`. */
  async file(lines: readonly string[]): Promise<string> {
    const path = join(this.#folder, 'owners.csv');
    await writeFile(path, lines.join('\n'));
    return path;
  }

  async text(...args: readonly string[]): Promise<string> {
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    try {
      expect(await runAdopt(this.app.services.config, ['--server', String(this.serverId), ...args])).toBe(0);
      return write.mock.calls.map(([text]) => String(text)).join('');
    } finally {
      write.mockRestore();
    }
  }

  async adopt(...args: readonly string[]): Promise<Printed> {
    const { peers: rows, missing } = JSON.parse(await this.text('--json', ...args)) as Printed & { peers: Row[] };
    return { rows, missing };
  }

  /** Outcomes by the name that the host has. */
  async outcomes(...args: readonly string[]): Promise<Record<string, string>> {
    const { rows } = await this.adopt(...args);
    return Object.fromEntries(rows.map(({ name, publicKey, outcome }) => [name ?? publicKey, outcome]));
  }

  async plan(): Promise<Plan> {
    const { token } = await this.app.admin();
    return ok(
      this.app.rest<Plan & Record<string, unknown>>('POST', `/servers/${this.serverId}/plan`, { token, body: {} }),
    );
  }

  /** As a start with `WG_APPLY_ENABLED=1` does, and a compare after it. Answers how many changes it made. */
  async drive(): Promise<number> {
    await updateServer(this.app.store, this.serverId, { mode: 'apply' });
    const pass = await this.app.services.hosts.compare(this.serverId, { acceptedRemovals: 0 });
    expect(pass.outcome).toBe('applied');
    return pass.changes;
  }

  async peerOf({ id }: Person): Promise<PeerRow> {
    const [peer, ...others] = await listPeersForUser(this.app.store, id);
    expect(others).toEqual([]);
    if (peer === undefined) throw new Error(`user ${id} has no peer`);
    return peer;
  }

  async reread({ id }: PeerRow): Promise<PeerRow> {
    return (await findPeer(this.app.store, id)) as PeerRow;
  }

  async config({ token }: Person, { id }: PeerRow): Promise<ClientConfig> {
    const path = `/vpn_peers/${id}/config`;
    return parseClientConfig((await ok(this.app.rest<{ wg_quick: string }>('GET', path, { token }))).wg_quick);
  }

  /** Everything that an adoption writes. Jobs of the server may note at any time what they have seen and told. */
  async rows(): Promise<Record<string, unknown>> {
    const { kysely } = this.app.store;
    const tables = ['users', 'peers', 'host_peers', 'audit_log'] as const;
    const found: Record<string, unknown> = {};
    for (const table of tables) found[table] = await kysely.selectFrom(table).selectAll().orderBy('id').execute();
    const foreign = kysely.selectFrom('foreign_peers').select(['server_id', 'public_key', 'allowed_ips']);
    const events = kysely.selectFrom('outbox_events').select(['id', 'type', 'payload']);
    return {
      ...found,
      foreign: await foreign.orderBy('public_key').execute(),
      events: await events.orderBy('id').execute(),
    };
  }

  async events(): Promise<string[]> {
    await this.app.store.transaction((tx) => publishOutboxEvents(tx, 1_000));
    const rows = await this.app.store.kysely.selectFrom('outbox_events').select('type').orderBy('id').execute();
    return rows.map(({ type }) => type);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

export interface EasyWorld extends AsyncDisposable {
  readonly stub: WgEasyStub;
  readonly observer: Observer;
}

/** A wg-easy in use, behind a server that observes it. */
export async function openEasy(
  { engine, version }: (typeof cases)[number],
  clients: readonly string[],
): Promise<EasyWorld> {
  await using stack = new AsyncDisposableStack();
  const stub = stack.use(await startWgEasyStub({ version, clients }));
  const env = { WG_EASY_URL: stub.url, WG_EASY_PASSWORD: stub.password, WG_APPLY_ENABLED: '0' };
  const observer = stack.use(await Observer.start(engine, env));
  const owned = stack.move();
  return { stub, observer, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Whatever was asked of a wg-easy was asked to read, or to log in. */
export function expectOnlyReads({ stub }: EasyWorld): void {
  const changes = stub.requests.filter(({ method }) => method !== 'GET').map(({ method, path }) => `${method} ${path}`);
  const login = stub.version === 14 ? 'POST /api/session' : 'POST /api/auth/password';
  expect(new Set(changes)).toEqual(new Set([login]));
  expect(stub.mutations()).toEqual([]);
}
