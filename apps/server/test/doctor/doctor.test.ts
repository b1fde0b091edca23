import { randomUUID } from 'node:crypto';
import { type Invariant, insertPeer, insertServer, insertSession, type UserRow } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import type { ObservedPeer } from '@vpn-api/wg';
import { describe, expect, test } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { type DoctorOptions, type Finding, runDoctor } from '../../src/ops/doctor.ts';
import { publishEvents } from '../../src/ops/publish-events.ts';
import { customer, DAY, paid, refunded, type Shop, useShop } from '../payment/shop.ts';

describe.each(engines)('the doctor on %s', (engine) => {
  const world = useShop(engine);

  const look = (options: Partial<DoctorOptions> = {}): Promise<readonly Finding[]> =>
    runDoctor(world.shop.store, { now: world.shop.clock.now(), limit: 1000, ...options });

  /** What is found after something was broken and was not found before. */
  async function findsAfter(harm: () => Promise<unknown>, options: Partial<DoctorOptions> = {}): Promise<Finding[]> {
    const known = new Set((await look()).map((finding) => JSON.stringify(finding)));
    await harm();
    return (await look(options)).filter((finding) => !known.has(JSON.stringify(finding)));
  }

  async function expectFinding(invariant: Invariant, message: string, harm: () => Promise<unknown>): Promise<void> {
    const found = await findsAfter(harm);
    expect(found).toContainEqual(expect.objectContaining({ invariant, message }));
  }

  async function server(columns: Record<string, unknown> = {}): Promise<number> {
    const { shop } = world;
    const { id } = await insertServer(shop.store, {
      name: randomUUID(),
      driver: 'none',
      keys: 'given',
      mode: 'apply',
      interface: 'wg0',
      pool_v4: '10.8.0.0/24',
      dns: '1.1.1.1',
      mtu: 1420,
      client_allowed_ips: '0.0.0.0/0',
      keepalive: 25,
      origin: 'api',
      created_at: shop.clock.now(),
      ...columns,
    });
    return id;
  }

  async function device(user: UserRow, serverId: number, columns: Record<string, unknown> = {}) {
    const { shop } = world;
    return shop.store.transaction((tx) =>
      insertPeer(tx, {
        user_id: user.id,
        server_id: serverId,
        key_origin: 'client',
        public_key: key(),
        allowed_ips: '0.0.0.0/0',
        address_index: 2,
        wg_ip: '10.8.0.2/32',
        created_at: shop.clock.now(),
        ...columns,
      }),
    );
  }

  const set = async (table: 'payments' | 'subscription_periods' | 'peers' | 'servers', id: number, columns: object) => {
    await world.shop.store.kysely.updateTable(table).set(columns).where('id', '=', id).execute();
  };

  async function paidOrder() {
    const order = await world.shop.order();
    await world.shop.deliver(paid(order.payment));
    const [period] = await world.shop.periods(order.user);
    return { ...order, paymentId: order.payment.id, periodId: period?.id ?? 0 };
  }

  test('finds nothing in a shop where everything happened that may happen', async () => {
    const { shop } = world;
    await everything(shop);
    await publishEvents(shop.services);
    expect(await look()).toEqual([]);
  });

  test('finds nothing in the middle of it either, however often it looks', async () => {
    const { shop } = world;
    const found: Finding[] = [];
    let looks = 0;
    const customers = Array.from({ length: 6 }, () => buyAndRegret(shop, () => looks === 8));
    for (; looks < 8; looks += 1) found.push(...(await look()));
    await Promise.all(customers);
    expect(found).toEqual([]);
  });

  test('reports a few rows of each rule, however many break it', async () => {
    const { shop } = world;
    for (let made = 0; made < 5; made += 1) {
      const { periodId } = await paidOrder();
      await set('subscription_periods', periodId, { ends_at: addSeconds(shop.clock.now(), 1) });
    }
    const found = await look({ limit: 3 });
    expect(found.filter(({ invariant }) => invariant === 'I3')).toHaveLength(3);
  });

  describe('I1', () => {
    test('finds money that no delivery speaks of', async () => {
      const { paymentId } = await paidOrder();
      await expectFinding('I1', 'a payment kept money that no delivery in the inbox and no admin speaks of', () =>
        world.shop.store.kysely.deleteFrom('payment_events').where('payment_id', '=', paymentId).execute(),
      );
    });

    test('finds an event that acted on nothing', async () => {
      const { paymentId } = await paidOrder();
      await expectFinding('I1', 'an event was acted upon and names no payment', () =>
        world.shop.store.kysely
          .updateTable('payment_events')
          .set({ payment_id: null })
          .where('payment_id', '=', paymentId)
          .execute(),
      );
    });

    test('finds a delivery that was accepted and is not there', async () => {
      const { payment } = await world.shop.order();
      await world.shop.deliver(paid(payment), { id: 'msg_kept' });
      const acked = [
        { provider: 'standard', dedupeKey: 'msg_kept' },
        { provider: 'standard', dedupeKey: 'msg_lost' },
      ];
      const found = await findsAfter(async () => {}, { acked });
      expect(found).toMatchObject([{ invariant: 'I1', row: { dedupeKey: 'msg_lost' } }]);
    });
  });

  describe('I2', () => {
    test('finds money that granted nothing', async () => {
      const { periodId } = await paidOrder();
      await expectFinding('I2', 'a payment kept money and granted nothing', () =>
        world.shop.store.kysely.deleteFrom('subscription_periods').where('id', '=', periodId).execute(),
      );
    });

    test('finds a grant without money', async () => {
      const { paymentId } = await paidOrder();
      await expectFinding('I2', 'a payment granted a period and has no money', () =>
        set('payments', paymentId, { status: 'needs_review' }),
      );
    });

    test("finds a period on somebody else's money", async () => {
      const { periodId } = await paidOrder();
      const thief = await world.shop.person();
      await expectFinding('I2', 'a period belongs to a payment of another user', () =>
        set('subscription_periods', periodId, { user_id: thief.id }),
      );
    });

    test('finds a period that claims a payment it does not have', async () => {
      const { periodId } = await paidOrder();
      await expectFinding('I2', 'a period and its source disagree about a payment', () =>
        set('subscription_periods', periodId, { payment_id: null }),
      );
    });

    test('finds a trial that nobody claimed', async () => {
      const { periodId } = await paidOrder();
      await expectFinding('I2', 'a trial that nobody claimed', () =>
        set('subscription_periods', periodId, { source: 'trial', payment_id: null }),
      );
    });
  });

  describe('I3', () => {
    const message = 'time was lost or doubled';

    test.each([
      ['an end that was moved', { ends_at: '2030-01-01T00:00:00.000Z' }],
      ['a start that was moved', { starts_at: '2020-01-01T00:00:00.000Z' }],
      ['a grace that nobody sold', { grace_ends_at: '2031-01-01T00:00:00.000Z' }],
      ['time that was moved and never came again', { moved_seconds: 60 }],
      ['time that was taken without a refund', { cut_seconds: 60 }],
    ])('finds %s', async (_, harm) => {
      const { periodId } = await paidOrder();
      await expectFinding('I3', message, () => set('subscription_periods', periodId, harm));
    });

    test('finds time that a refunded payment still gives', async () => {
      const { payment, periodId } = await paidOrder();
      await world.shop.deliver(refunded(payment));
      await expectFinding('I3', message, () =>
        set('subscription_periods', periodId, { revoked_at: null, cut_seconds: 0 }),
      );
    });
  });

  describe('I4', () => {
    test('finds refunds that do not add up', async () => {
      const { payment, paymentId } = await paidOrder();
      await world.shop.deliver(refunded(payment, { amount: '1.00' }));
      await expectFinding('I4', 'the refunds of a payment add up to something else than it says', () =>
        set('payments', paymentId, { refunded_minor: 50 }),
      );
    });

    test('finds more that went back than came', async () => {
      const { paymentId } = await paidOrder();
      await expectFinding('I4', 'more went back than came', () =>
        set('payments', paymentId, { refunded_minor: 100_000, status: 'refunded' }),
      );
    });

    test('finds a status that does not fit what went back', async () => {
      const { paymentId } = await paidOrder();
      await expectFinding('I4', 'the status of a payment does not fit what went back', () =>
        set('payments', paymentId, { status: 'partially_refunded' }),
      );
    });

    test('finds other money than was asked that nobody accepted', async () => {
      const { paymentId } = await paidOrder();
      await expectFinding('I4', 'other money than was asked was accepted by nobody', () =>
        set('payments', paymentId, { amount_minor: 5 }),
      );
    });
  });

  describe('I5', () => {
    test('finds a payment that was completed at no time', async () => {
      const { paymentId } = await paidOrder();
      await expectFinding('I5', 'the status of a payment and the moment it was completed disagree', () =>
        set('payments', paymentId, { completed_at: null }),
      );
    });

    test('finds a payment that went back to waiting', async () => {
      const { paymentId } = await paidOrder();
      await expectFinding('I5', 'a payment whose money came went back to a state without it', () =>
        set('payments', paymentId, { status: 'pending', completed_at: null }),
      );
    });
  });

  describe('I6', () => {
    test('finds two devices with one address, and one that is not in its place', async () => {
      const { user } = await paidOrder();
      const here = await server();
      await device(user, here);
      const found = await findsAfter(() => device(user, here, { address_index: 3 }));
      const messages = found.map(({ message }) => message);
      expect(messages).toContain('two devices share an address');
      expect(messages).toContain('the address of a device is not its place in the pool');
    });

    test('finds a device with the key of a server', async () => {
      const { user } = await paidOrder();
      const here = await server({ public_key: key() });
      const { id } = await device(user, here);
      const { public_key } = await world.shop.store.kysely
        .selectFrom('servers')
        .select('public_key')
        .where('id', '=', here)
        .executeTakeFirstOrThrow();
      await expectFinding('I6', 'two devices share a key, or one has the key of a server', () =>
        set('peers', id, { public_key }),
      );
    });
  });

  describe('I7', () => {
    test('finds a device that a working host forgot', async () => {
      const { shop } = world;
      const { user } = await paidOrder();
      const here = await server();
      const since = shop.clock.now();
      await device(user, here, { wanted_version: 1, applied_version: 0, pending_since: since });
      shop.clock.advance(3600);
      await expectFinding('I7', 'a device waits for its host, which works and says nothing about it', () =>
        set('servers', here, { last_seen_at: shop.clock.now() }),
      );
    });

    test('finds what a host holds too much, too little or with other addresses', async () => {
      const { shop } = world;
      const here = await server();
      const [one, two] = [await paidOrder(), await paidOrder()];
      const there = await device(one.user, here);
      const missing = await device(two.user, here, { address_index: 3, wg_ip: '10.8.0.3/32' });
      const onHost = (allowedIps: readonly string[]) => new Map([[here, [observed(there.public_key, allowedIps)]]]);
      const rows = async (allowedIps: readonly string[]) =>
        (await look({ observed: onHost(allowedIps), now: shop.clock.now() }))
          .filter(({ message }) => message === 'a host holds something else than is paid')
          .map(({ row }) => row.peer_id);
      expect(await rows(['10.8.0.2/32'])).toEqual([missing.id]);
      expect(await rows(['10.8.0.2/32', '10.0.0.0/8'])).toEqual([there.id, missing.id]);
    });
  });

  test('I8: finds a device that is on its host after its access ended', async () => {
    const { shop } = world;
    const { user } = await paidOrder();
    const here = await server();
    await device(user, here, { applied_state: 'present', applied_version: 1, wanted_version: 1 });
    shop.clock.advance(31 * DAY);
    await expectFinding('I8', 'a device is on its host after its access ended', () =>
      set('servers', here, { last_seen_at: shop.clock.now() }),
    );
  });

  describe('I9', () => {
    async function session(familyId: number | null, columns: Record<string, unknown> = {}): Promise<number> {
      const { shop } = world;
      const user = await shop.person();
      const at = shop.clock.now();
      const row = { user_id: user.id, token_hash: randomUUID(), created_at: at, expires_at: addSeconds(at, DAY) };
      const { id } = await shop.store.transaction((tx) => insertSession(tx, { ...row, family_id: familyId }));
      await shop.store.kysely
        .updateTable('sessions')
        .set({ family_id: familyId ?? id, ...columns })
        .where('id', '=', id)
        .execute();
      return id;
    }

    test('finds a login with two living tokens', async () => {
      const login = await session(null);
      await expectFinding('I9', 'a login has more than one living refresh token', () => session(login));
    });

    test('finds a living token of a login that was ended', async () => {
      const login = await session(null, { revoked_at: world.shop.clock.now() });
      await expectFinding('I9', 'a login was ended and still has a living refresh token', () => session(login));
    });
  });

  describe('I10', () => {
    test('finds an event that was never published', async () => {
      const { shop } = world;
      await paidOrder();
      await expectFinding('I10', 'an outgoing event was never published', async () => shop.clock.advance(3600));
    });

    test('finds a delivery that nobody makes', async () => {
      const { shop } = world;
      const at = shop.clock.now();
      const { id: endpoint_id } = await shop.store.kysely
        .insertInto('webhook_endpoints')
        .values({ url: 'https://hooks.example', secrets_sealed: 'sealed', created_at: at })
        .returning('id')
        .executeTakeFirstOrThrow();
      const { id: event_id } = await shop.store.kysely
        .insertInto('outbox_events')
        .values({ type: 'user.created', payload: '{}', position: endpoint_id + 1000, created_at: at })
        .returning('id')
        .executeTakeFirstOrThrow();
      const delivery = { endpoint_id, event_id, status: 'pending', created_at: at } as const;
      await shop.store.kysely.insertInto('webhook_deliveries').values(delivery).execute();
      await expectFinding('I10', 'the next delivery to an endpoint is overdue', async () => shop.clock.advance(3600));
      // Somebody is at work on what piled up.
      const lease = { lease_owner: 'worker', lease_until: addSeconds(shop.clock.now(), 1) };
      await shop.store.kysely.updateTable('webhook_endpoints').set(lease).where('id', '=', endpoint_id).execute();
      expect((await look()).filter(({ row }) => row.endpoint_id === endpoint_id)).toEqual([]);
    });

    test('finds a refund that nobody asks about any more', async () => {
      const { shop } = world;
      const { paymentId } = await paidOrder();
      const refund = { payment_id: paymentId, provider: 'standard', amount_minor: 1, source: 'webhook' } as const;
      const row = { ...refund, status: 'pending', created_at: shop.clock.now() } as const;
      await shop.store.kysely.insertInto('refunds').values(row).execute();
      await expectFinding('I10', 'a refund whose outcome is unknown is asked about no more', async () =>
        shop.clock.advance(2 * DAY),
      );
    });
  });

  describe('I11', () => {
    test('finds a gift that nobody signed for', async () => {
      const { shop } = world;
      const user = await shop.person();
      await shop.admin.subscription.grant({ user_id: user.id, tariff_id: (await shop.tariff()).id });
      await expectFinding('I11', 'a period that was given without payment has no audit row', () =>
        shop.store.kysely.deleteFrom('audit_log').where('target', '=', `user:${user.id}`).execute(),
      );
    });

    test('finds a period that was taken back and nobody signed for', async () => {
      const { shop } = world;
      const { user, periodId } = await paidOrder();
      await shop.admin.subscription.revoke({ period_id: periodId, reason: 'abuse' });
      await expectFinding('I11', 'a period was taken back without a refund and has no audit row', () =>
        shop.store.kysely.deleteFrom('audit_log').where('target', '=', `user:${user.id}`).execute(),
      );
    });

    test('believes what was signed for before the clock was set back', async () => {
      const { shop } = world;
      const { user, periodId } = await paidOrder();
      await shop.admin.subscription.extend({ user_id: user.id, days: 9, reason: 'sorry' });
      const compensation = (await shop.periods(user)).at(-1)?.id ?? 0;
      await shop.admin.subscription.revoke({ period_id: compensation, reason: 'mistake' });
      const found = await findsAfter(async () => {
        shop.clock.advance(-60);
        await shop.admin.subscription.revoke({ period_id: periodId, reason: 'abuse' });
      });
      shop.clock.advance(60);
      expect(found).toEqual([]);
    });

    test('finds a refund by an admin that nobody signed for', async () => {
      const { shop } = world;
      const { payment, paymentId } = await paidOrder();
      await shop.deliver(refunded(payment, { amount: '1.00' }));
      await expectFinding('I11', 'a refund by an admin has no audit row', () =>
        shop.store.kysely
          .updateTable('refunds')
          .set({ source: 'external' })
          .where('payment_id', '=', paymentId)
          .execute(),
      );
    });

    test('finds a secret where people read', async () => {
      const { shop } = world;
      const entry = { at: shop.clock.now(), actor: 'user:1', action: 'test', details: '{"key":"vpk_abcdefgh"}' };
      await expectFinding('I11', 'a secret was written where people read', () =>
        shop.store.kysely.insertInto('audit_log').values(entry).execute(),
      );
    });
  });
});

let keys = 0;
function key(): string {
  keys += 1;
  return Buffer.alloc(32, String(keys).padStart(32, '0')).toString('base64');
}

function observed(publicKey: string | null, allowedIps: readonly string[]): ObservedPeer {
  return {
    publicKey: publicKey as ObservedPeer['publicKey'],
    presharedKey: null,
    allowedIps,
    enabled: true,
    endpoint: null,
    lastHandshakeAt: null,
    rxBytes: 0,
    txBytes: 0,
  };
}

/** What keeps a shop busy: customers who pay, change, are given days and get money back, each on his own. */
async function buyAndRegret(shop: Shop, isOver: () => boolean): Promise<void> {
  const user = await shop.person();
  for (let n = 0; !isOver(); n += 1) {
    const { payment } = await shop.order({ user });
    await shop.deliver(paid(payment));
    await shop.admin.subscription.extend({ user_id: user.id, days: 1, reason: 'outage' });
    await shop.deliver(refunded(payment, { amount: '1.00' }));
    if (n % 2 === 0) await shop.admin.payment.refund({ payment_id: payment.id, reason: 'regret', external: true });
    const last = (await shop.periods(user)).at(-1);
    if (n % 3 === 0) await shop.admin.subscription.revoke({ period_id: last?.id ?? 0, reason: 'abuse' });
  }
}

/** Every act that changes money or time, each as its rightful caller does it. */
async function everything(shop: Shop): Promise<void> {
  const first = await shop.order({ tariff: { grace_days: 3 } });
  await shop.deliver(paid(first.payment));
  shop.clock.advance(5 * DAY);
  const second = await shop.order({ user: first.user });
  await shop.deliver(paid(second.payment));
  await shop.deliver(refunded(first.payment, { amount: '2.00' }));
  const queued = await shop.order({ user: first.user, payment: { apply: 'extend' } });
  await shop.deliver(paid(queued.payment));
  await shop.admin.subscription.extend({ user_id: first.user.id, days: 2, reason: 'outage' });
  await shop.deliver(refunded(second.payment));

  const odd = await shop.order();
  await shop.deliver(paid(odd.payment, { amount: '5.00' }));
  await shop.deliver(refunded(odd.payment, { amount: '1.00' }));
  await shop.admin.payment.resolve({ payment_id: odd.payment.id, action: 'accept', note: 'fine' });
  const extra = await shop.order();
  await shop.deliver(paid(extra.payment));
  await shop.deliver(paid(extra.payment, { provider_payment_id: randomUUID() }));
  const early = await shop.order();
  await shop.deliver(refunded(early.payment));
  const rejected = await shop.order();
  await shop.deliver(paid(rejected.payment, { amount: '1.00' }));
  await shop.admin.payment.resolve({ payment_id: rejected.payment.id, action: 'reject', note: 'too little' });
  await shop.deliver(refunded(rejected.payment, { amount: '1.00' }));

  const guest = await shop.person();
  await shop.tariff({ trial: true, duration_days: 3 });
  await shop.as(customer(guest)).subscription.startTrial({});
  const forever = await shop.order({ user: guest, tariff: { duration_days: null } });
  await shop.deliver(paid(forever.payment));
  const given = await shop.person();
  const granted = await shop.admin.subscription.grant({ user_id: given.id, tariff_id: (await shop.tariff()).id });
  await shop.admin.subscription.revoke({ period_id: granted?.id ?? 0, reason: 'abuse' });
}
