import { randomUUID } from 'node:crypto';
import { countPayments, countTariffs, type Store, type Tx } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { customer, DAY, overridden, service, useShop } from './shop.ts';

/** A store whose transactions begin only when `wait` allows it. */
function heldStore(store: Store, wait: () => Promise<void>): Store {
  return overridden(store, {
    transaction: async (work: (tx: Tx) => Promise<unknown>) => {
      await wait();
      return store.transaction(work);
    },
  });
}

describe.each(engines)('an Idempotency-Key on %s', (engine) => {
  const world = useShop(engine);

  /** Repeats while another call with the key still runs, as `Retry-After` asks for. */
  async function patiently<T>(call: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if ((error as Error).message !== 'idempotency_in_progress') throw error;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  test('makes one effect of 50 calls at once, and all get the same answer', async () => {
    const { shop } = world;
    const { id: tariff_id } = await shop.tariff();
    const user = await shop.person();
    const calls = shop.as(shop.adminActor, { idempotencyKey: randomUUID() });
    const call = () => patiently(() => calls.subscription.grant({ user_id: user.id, tariff_id, reason: 'gift' }));
    const answers = await Promise.all(Array.from({ length: 50 }, call));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(answers[0]).toMatchObject({ user_id: user.id });
    expect(await shop.periods(user)).toHaveLength(1);
  });

  test('says that the first call still runs, with the seconds to wait', async () => {
    const { shop } = world;
    const [idempotencyKey, responseHeaders] = [randomUUID(), new Map<string, string>()];
    const input = { name: randomUUID(), price: '1' };
    const gate = Promise.withResolvers<void>();
    const running = Promise.withResolvers<void>();
    const held = heldStore(shop.store, () => {
      running.resolve();
      return gate.promise;
    });
    const first = shop.as(shop.adminActor, { idempotencyKey, services: { store: held } }).tariff.create(input);
    await running.promise;
    const second = shop.as(shop.adminActor, { idempotencyKey, responseHeaders });
    await expect(second.tariff.create(input)).rejects.toThrow('idempotency_in_progress');
    expect(responseHeaders.get('retry-after')).toBe('1');
    gate.resolve();
    const answer = await first;
    expect(await second.tariff.create(input)).toEqual(answer);
  });

  test('whose call was taken for dead after a minute lets it have no effect, should it live after all', async () => {
    const { shop } = world;
    const idempotencyKey = randomUUID();
    const user = await shop.person();
    const input = { user_id: user.id, tariff_id: (await shop.tariff()).id };
    const gate = Promise.withResolvers<void>();
    const running = Promise.withResolvers<void>();
    const held = heldStore(shop.store, () => {
      running.resolve();
      return gate.promise;
    });
    const late = shop.as(shop.adminActor, { idempotencyKey, services: { store: held } }).subscription.grant(input);
    await running.promise;
    const repeat = shop.as(shop.adminActor, { idempotencyKey });
    shop.clock.advance(59);
    await expect(repeat.subscription.grant(input)).rejects.toThrow('idempotency_in_progress');
    shop.clock.advance(1);
    const answer = await repeat.subscription.grant(input);
    gate.resolve();
    await expect(late).rejects.toThrow('idempotency_in_progress');
    expect(await shop.periods(user)).toHaveLength(1);
    expect(await repeat.subscription.grant(input)).toEqual(answer);
  });

  test('replays the answer and says so; another order of keys is the same body', async () => {
    const { shop } = world;
    const idempotencyKey = randomUUID();
    const responseHeaders = new Map<string, string>();
    const name = randomUUID();
    const first = await shop.as(shop.adminActor, { idempotencyKey }).tariff.create({ name, price: '1' });
    const repeat = shop.as(shop.adminActor, { idempotencyKey, responseHeaders });
    expect(await repeat.tariff.create({ price: '1', name })).toEqual(first);
    expect(responseHeaders.get('idempotency-replayed')).toBe('true');
  });

  test('with another body is refused, and makes nothing', async () => {
    const { shop } = world;
    const calls = shop.as(shop.adminActor, { idempotencyKey: randomUUID() });
    await calls.tariff.create({ name: randomUUID(), price: '1' });
    const before = await countTariffs(shop.store);
    await expect(calls.tariff.create({ name: randomUUID(), price: '1' })).rejects.toThrow('idempotency_key_reused');
    expect(await countTariffs(shop.store)).toBe(before);
  });

  test('is free again after a refusal', async () => {
    const { shop } = world;
    const user = await shop.person();
    const { id: tariff_id } = await shop.tariff({ duration_days: null });
    const calls = shop.as(shop.adminActor, { idempotencyKey: randomUUID() });
    const input = { user_id: user.id, tariff_id };
    await shop.admin.subscription.grant(input);
    await expect(calls.subscription.grant(input)).rejects.toThrow('already_lifetime');
    const [lifetime] = await shop.periods(user);
    await shop.admin.subscription.revoke({ period_id: lifetime?.id ?? 0, reason: 'mistake' });
    await expect(calls.subscription.grant(input)).resolves.toMatchObject({ is_lifetime: true });
  });

  test('belongs to one caller and one procedure', async () => {
    const { shop } = world;
    const idempotencyKey = randomUUID();
    const { id: tariff_id } = await shop.tariff();
    const before = await countPayments(shop.store);
    const users = [await shop.person(), await shop.person()];
    const payments = [];
    for (const user of users) {
      const calls = shop.as(customer(user), { idempotencyKey });
      payments.push(await calls.payment.create({ tariff_id }));
    }
    await shop.as(service, { idempotencyKey }).payment.create({ tariff_id, user_id: users[0]?.id ?? 0 });
    await shop.as(service, { idempotencyKey }).tariff.create({ name: randomUUID(), price: '1' });
    expect(payments.map(({ user_id }) => user_id)).toEqual(users.map(({ id }) => id));
    expect(await countPayments(shop.store)).toBe(before + 2);
  });

  test('is forgotten after a day', async () => {
    const { shop } = world;
    const user = await shop.person();
    const { id: tariff_id } = await shop.tariff();
    const calls = shop.as(shop.adminActor, { idempotencyKey: randomUUID() });
    const grant = () => calls.subscription.grant({ user_id: user.id, tariff_id });
    await grant();
    shop.clock.advance(DAY - 1);
    await grant();
    expect(await shop.periods(user)).toHaveLength(1);
    shop.clock.advance(1);
    await grant();
    expect(await shop.periods(user)).toHaveLength(2);
  });

  test('is refused on a batch, when empty, too long or not printable', async () => {
    const { shop } = world;
    const input = { name: randomUUID(), price: '1' };
    for (const options of [
      { idempotencyKey: 'k', callCount: 2 },
      { idempotencyKey: '' },
      { idempotencyKey: 'k'.repeat(256) },
      { idempotencyKey: 'k\n' },
    ]) {
      await expect(shop.as(shop.adminActor, options).tariff.create(input)).rejects.toThrow('validation_failed');
    }
  });

  test('the stored answer is sealed: it shows nothing of what was answered', async () => {
    const { shop } = world;
    const name = `secret-${randomUUID()}`;
    const key = randomUUID();
    await shop.as(shop.adminActor, { idempotencyKey: key }).tariff.create({ name, price: '1' });
    const rows = await shop.store.kysely.selectFrom('idempotency_keys').selectAll().where('key', '=', key).execute();
    expect(rows).toHaveLength(1);
    expect(rows[0]?.answer).toMatch(/^v1\./);
    expect(JSON.stringify(rows)).not.toContain(name);
  });
});
