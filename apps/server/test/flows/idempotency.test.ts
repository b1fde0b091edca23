import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inputFor } from '../api/inputs.ts';
import { callProcedure, type Input, type Procedure, procedures, restCall, transports } from '../api/procedures.ts';
import { type Account, World } from '../api/world.ts';
import { type App, engines, startApp } from '../harness.ts';

const creating = procedures.filter(({ meta }) => meta.idempotent === true);

/** Another input that the schema takes: with the same key it is another body. */
const changes: Readonly<Record<string, Input>> = {
  'auth.assignTariff': { tariff_id: 999 },
  'auth.subscribe': { tariff_id: 999 },
  'user.ensure': { telegram_id: 42 },
  'apiKey.create': { name: 'another' },
  'tariff.create': { price: '1' },
  'subscription.grant': { reason: 'another' },
  'subscription.extend': { days: 4 },
  'peer.createSelf': { device_name: 'another' },
  'peer.create': { device_name: 'another' },
  'peer.rotate': { wg_public_key: 'JVqnPZHhAHRDxkJPBHQ3XyTpJFgWaOCS0SS0ThSJPFw=' },
  'payment.create': { currency: 'EUR' },
  'server.create': { region: 'nl' },
  'payment.refund': { reason: 'another' },
  'subscription.startTrial': { tariff_id: 999 },
  'webhookEndpoint.create': { description: 'another' },
  'webhookEndpoint.rotateSecret': { id: 999 },
};

describe.each(engines)('an Idempotency-Key on %s', (engine) => {
  let app: App;
  let world: World;
  beforeAll(async () => {
    app = await startApp({ engine, env: { ALLOW_SELF_SUBSCRIBE: '1' } });
    world = await World.open(app);
  });
  afterAll(() => app[Symbol.asyncDispose]());

  /** A call of the procedure by somebody who may make it. */
  async function prepare({ name, meta }: Procedure): Promise<{ owner: Account; token: string; input: Input }> {
    const owner = await world.account();
    const token = meta.access === 'person' ? owner.token : (await world.account({ isAdmin: true })).token;
    return { owner, token, input: await inputFor(name, { world, owner }) };
  }

  const withKey = (token: string, key: string) => ({ token, headers: { 'idempotency-key': key } });

  test('the procedures that take one are those with another body in this test', () => {
    expect(creating.map(({ name }) => name).sort()).toEqual(Object.keys(changes).sort());
  });

  test.each(creating)(
    '$name answers a repeat with what it answered first, over either transport',
    async (procedure) => {
      for (const transport of transports) {
        const { token, input } = await prepare(procedure);
        const options = withKey(token, randomUUID());
        const first = await callProcedure(app, transport, procedure, input, options);
        expect(first.status, first.text).toBe(200);
        expect(first.headers.get('idempotency-replayed')).toBeNull();
        for (const again of transports) {
          const repeat = await callProcedure(app, again, procedure, input, options);
          expect(repeat.status, repeat.text).toBe(200);
          expect(repeat.headers.get('idempotency-replayed')).toBe('true');
          // Private keys and API keys too: they are shown once, and this is that once.
          expect(repeat.data).toEqual(first.data);
        }
      }
    },
  );

  test.each(creating)('$name refuses the key with another body, and with other text for one', async (procedure) => {
    const { token, input } = await prepare(procedure);
    const options = withKey(token, randomUUID());
    expect((await callProcedure(app, 'rest', procedure, input, options)).status).toBe(200);
    for (const transport of transports) {
      const other = { ...input, ...changes[procedure.name] };
      const refused = await callProcedure(app, transport, procedure, other, options);
      expect([refused.status, refused.code], refused.text).toEqual([422, 'idempotency_key_reused']);
    }
    const again = await callProcedure(app, 'trpc', procedure, input, options);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
  });

  test.each(creating)('$name refuses it on a batch', async (procedure) => {
    const { token, input } = await prepare(procedure);
    const body = { 0: input, 1: input };
    const path = `/trpc/${procedure.name},${procedure.name}?batch=1`;
    const batch = await app.rest<{ error: { data: { problem: unknown } } }[]>('POST', path, {
      ...withKey(token, randomUUID()),
      body,
    });
    for (const { error } of batch.body) {
      expect(error.data.problem).toMatchObject({
        status: 400,
        code: 'validation_failed',
        issues: [{ path: 'Idempotency-Key' }],
      });
    }
    expect(batch.body).toHaveLength(2);
  });

  test.each(creating.filter(({ meta }) => meta.access !== 'person'))(
    '$name knows whose key it is',
    async (procedure) => {
      const { token, input } = await prepare(procedure);
      const key = randomUUID();
      const mine = await callProcedure(app, 'rest', procedure, input, withKey(token, key));
      expect(mine.status).toBe(200);
      const other = (await world.account({ isAdmin: true })).token;
      const { input: fresh } = await prepare(procedure);
      const theirs = await callProcedure(app, 'rest', procedure, fresh, withKey(other, key));
      expect(theirs.status, theirs.text).toBe(200);
      expect(theirs.headers.get('idempotency-replayed')).toBeNull();
    },
  );

  test('one key serves different procedures', async () => {
    const options = withKey((await world.account({ isAdmin: true })).token, randomUUID());
    for (const name of ['tariff.create', 'apiKey.create', 'user.ensure']) {
      const procedure = procedureNamed(name);
      const { input } = await prepare(procedure);
      const answer = await callProcedure(app, 'rest', procedure, input, options);
      expect([answer.status, answer.headers.get('idempotency-replayed')], name).toEqual([200, null]);
    }
  });

  test('the words of a body may come in another order, and by another spelling of the path', async () => {
    const { token } = await world.account({ isAdmin: true });
    const options = withKey(token, randomUUID());
    const name = randomUUID();
    const first = await app.rest('POST', '/tariffs', { ...options, body: { name, price: '1', currency: 'EUR' } });
    const again = await app.rest('POST', '/tariffs/', { ...options, body: { currency: 'EUR', price: '1', name } });
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(again.body).toEqual(first.body);
  });

  test('a refused call lets its key go', async () => {
    const { id, token } = await world.account();
    const options = withKey(token, randomUUID());
    const create = procedureNamed('peer.createSelf');
    const refused = await callProcedure(app, 'rest', create, {}, options);
    expect([refused.status, refused.code]).toEqual([403, 'no_active_subscription']);
    const again = await callProcedure(app, 'rest', create, {}, options);
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([403, null]);
    await world.subscribe(id);
    const answer = await callProcedure(app, 'trpc', create, {}, options);
    expect([answer.status, answer.headers.get('idempotency-replayed')]).toEqual([200, null]);
    // Another body was sent before, but nothing came of it.
    const { token: other } = await world.account();
    const tariff = { name: 'Nobody', price: '1' };
    expect(
      (await callProcedure(app, 'rest', procedureNamed('tariff.create'), tariff, withKey(other, 'k'))).status,
    ).toBe(403);
  });

  test('the same call many times at once has one effect, and every answer is it or asks to come back', async () => {
    const { id, token } = await world.account();
    await world.subscribe(id);
    const options = withKey(token, randomUUID());
    const [method, path, request] = restCall(procedureNamed('peer.createSelf'), { device_name: 'phone' }, options);
    const answers = await Promise.all(Array.from({ length: 20 }, () => app.rest(method, path, request)));
    const busy = answers.filter(({ status }) => status === 409);
    const done = answers.filter(({ status }) => status === 200);
    expect(busy.length + done.length).toBe(20);
    expect(new Set(done.map(({ text }) => text)).size).toBe(1);
    for (const { body, headers } of busy) {
      expect([body.code, headers.get('retry-after')]).toEqual(['idempotency_in_progress', '1']);
    }
    const list = await app.rest<unknown[]>('GET', '/vpn_peers', { token });
    expect(list.body).toHaveLength(1);
  });
});

function procedureNamed(name: string): Procedure {
  const found = procedures.find((procedure) => procedure.name === name);
  if (found === undefined) throw new Error(`there is no procedure ${name}`);
  return found;
}
