import { randomUUID } from 'node:crypto';
import { countEvents, listChildPayments, listRefunds, type Store, type Tx } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import type { KyselyPlugin, RootOperationNode } from 'kysely';
import { describe, expect, test } from 'vitest';
import type { Services } from '../../src/services.ts';
import { chargeOf, overridden, paid, refunded, type Shop, useShop } from './shop.ts';

const WRITES = new Set<RootOperationNode['kind']>(['InsertQueryNode', 'UpdateQueryNode', 'DeleteQueryNode', 'RawNode']);

/** A store whose transactions fail once they have written `writes` times, as if the process had died there. */
function crashingStore(store: Store, writes: number): Store {
  return overridden(store, {
    transaction: (work: (tx: Tx) => Promise<unknown>) => store.transaction((tx) => work(crashingTx(tx, writes))),
  });
}

function crashingTx(tx: Tx, writes: number): Tx {
  const written = new WeakSet<object>();
  let left = writes;
  const plugin: KyselyPlugin = {
    transformQuery: ({ node, queryId }) => {
      if (WRITES.has(node.kind)) written.add(queryId);
      return node;
    },
    transformResult: async ({ result, queryId }) => {
      if (!written.has(queryId)) return result;
      left -= 1;
      if (left === 0) throw new Error('crash');
      return result;
    },
  };
  const kysely = tx.kysely.withPlugin(plugin);
  return { kysely, dialect: tx.dialect, isTransaction: true, onCommit: (hook) => tx.onCommit(hook) };
}

/** A store that commits and then fails, as if the process had died before it could answer. */
function mutedStore(store: Store): Store {
  return overridden(store, {
    transaction: async (work: (tx: Tx) => Promise<unknown>) => {
      await store.transaction(work);
      throw new Error('crash');
    },
  });
}

/** A store that is gone from its first transaction on, so that not even a clean-up reaches it. */
function dyingStore(store: Store): Store {
  let isGone = false;
  return new Proxy(store, {
    get: (target, key) => {
      isGone ||= key === 'transaction';
      if (isGone) throw new Error('crash');
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

interface Scenario {
  /** What was there before the delivery, and the delivery. */
  prepare(shop: Shop): Promise<{ userId: number; paymentId: number; event: object }>;
}

const scenarios: Record<string, Scenario> = {
  'a first charge': {
    prepare: async (shop) => {
      const { user, payment } = await shop.order();
      return { userId: user.id, paymentId: payment.id, event: paid(payment) };
    },
  },
  'a charge of another amount': {
    prepare: async (shop) => {
      const { user, payment } = await shop.order();
      return { userId: user.id, paymentId: payment.id, event: paid(payment, { amount: '1.00' }) };
    },
  },
  'a second charge': {
    prepare: async (shop) => {
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      const event = paid(payment, { provider_payment_id: `second-${chargeOf(payment)}` });
      return { userId: user.id, paymentId: payment.id, event };
    },
  },
  'a refund of the first of two periods': {
    prepare: async (shop) => {
      const { user, payment } = await shop.order();
      const next = await shop.order({ user });
      await shop.deliver(paid(payment));
      await shop.deliver(paid(next.payment));
      return { userId: user.id, paymentId: payment.id, event: refunded(payment, { amount: '5.00' }) };
    },
  },
};

describe.each(engines)('a crash on %s', (engine) => {
  const world = useShop(engine);

  async function everything(userId: number, paymentId: number) {
    const { shop } = world;
    return {
      events: await countEvents(shop.store),
      payment: await shop.payment(paymentId),
      children: await listChildPayments(shop.store, paymentId),
      refunds: await listRefunds(shop.store, paymentId),
      periods: await shop.periods({ id: userId }),
      woken: { ...shop.woken },
    };
  }

  test.each(Object.keys(scenarios))(
    'after any write of %s leaves nothing, and the next delivery settles',
    async (name) => {
      const { shop } = world;
      const scenario = scenarios[name] as Scenario;
      for (let writes = 1; ; writes += 1) {
        const { userId, paymentId, event } = await scenario.prepare(shop);
        const [before, id] = [await everything(userId, paymentId), `msg_${randomUUID()}`];
        const services: Partial<Services> = { store: crashingStore(shop.store, writes) };
        const outcome = await shop.deliver(event, { id, services }).catch(() => 'crashed');
        if (outcome === 'settled') {
          expect(writes).toBeGreaterThan(3);
          return;
        }
        expect(outcome).toBe('crashed');
        expect(await everything(userId, paymentId)).toEqual(before);
        expect(await shop.deliver(event, { id })).toBe('settled');
        expect(await everything(userId, paymentId)).not.toEqual(before);
      }
    },
  );

  test('between the commit of a webhook and its answer changes nothing: the repeat is a duplicate', async () => {
    const { shop } = world;
    const { user, payment } = await shop.order();
    const id = `msg_${randomUUID()}`;
    const services = { store: mutedStore(shop.store) };
    await expect(shop.deliver(paid(payment), { id, services })).rejects.toThrow('internal_error');
    expect(await shop.deliver(paid(payment), { id })).toBe('duplicate');
    expect(await shop.periods(user)).toHaveLength(1);
  });

  test('between the effect of an idempotent call and its answer: the repeat gets the answer that was saved', async () => {
    const { shop } = world;
    const user = await shop.person();
    const { id: tariff_id } = await shop.tariff();
    const call = (services: Partial<Services>, responseHeaders = new Map<string, string>()) =>
      shop
        .as(shop.adminActor, { idempotencyKey: 'grant-1', services, responseHeaders })
        .subscription.grant({ user_id: user.id, tariff_id });
    await expect(call({ store: mutedStore(shop.store) })).rejects.toThrow('internal_error');
    const headers = new Map<string, string>();
    const answer = await call({}, headers);
    expect(headers.get('idempotency-replayed')).toBe('true');
    const periods = await shop.periods(user);
    expect(periods).toHaveLength(1);
    expect(answer).toMatchObject({ id: periods[0]?.id, user_id: user.id, status: 'active' });
  });

  test('before the effect of an idempotent call, with no time to say so: the key is free after its lease', async () => {
    const { shop } = world;
    const user = await shop.person();
    const { id: tariff_id } = await shop.tariff();
    const call = (services: Partial<Services> = {}) =>
      shop
        .as(shop.adminActor, { idempotencyKey: 'grant-2', services })
        .subscription.grant({ user_id: user.id, tariff_id });
    await expect(call({ store: dyingStore(shop.store) })).rejects.toThrow('internal_error');
    await expect(call()).rejects.toThrow('idempotency_in_progress');
    shop.clock.advance(61);
    await expect(call()).resolves.toMatchObject({ user_id: user.id });
    expect(await shop.periods(user)).toHaveLength(1);
  });
});
