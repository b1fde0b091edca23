import { randomUUID } from 'node:crypto';
import { insertPeer, insertServer, listAudit, type UserRow, updateUser } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { customer, DAY, paid, service, useShop } from '../payment/shop.ts';

describe.each(engines)('subscriptions on %s', (engine) => {
  const world = useShop(engine);

  async function server(): Promise<number> {
    const { shop } = world;
    const { id } = await insertServer(shop.store, {
      name: randomUUID(),
      driver: 'none',
      keys: 'given',
      mode: 'observe',
      interface: 'wg0',
      pool_v4: '10.8.0.0/24',
      dns: '1.1.1.1',
      mtu: 1420,
      client_allowed_ips: '0.0.0.0/0',
      keepalive: 25,
      origin: 'api',
      created_at: shop.clock.now(),
    });
    return id;
  }

  async function device(user: UserRow, serverId: number): Promise<void> {
    const { shop } = world;
    await shop.store.transaction((tx) =>
      insertPeer(tx, {
        user_id: user.id,
        server_id: serverId,
        key_origin: 'client',
        public_key: randomUUID(),
        allowed_ips: '0.0.0.0/0',
        created_at: shop.clock.now(),
      }),
    );
  }

  async function subscriber(tariff: Record<string, unknown> = {}): Promise<UserRow> {
    const { shop } = world;
    const user = await shop.person();
    await shop.admin.subscription.grant({ user_id: user.id, tariff_id: (await shop.tariff(tariff)).id });
    return user;
  }

  describe('granting', () => {
    test('D39: an admin gives a tariff without a payment, behind what is there', async () => {
      const { shop } = world;
      const { user, payment } = await shop.order();
      await shop.deliver(paid(payment));
      const now = shop.clock.now();
      const tariff = await shop.tariff({ duration_days: 10, device_limit: 5 });
      const input = { user_id: user.id, tariff_id: tariff.id, reason: 'gift' };
      const granted = await shop.admin.subscription.grant(input);
      expect(granted).toMatchObject({
        user_id: user.id,
        status: 'active',
        started_at: now,
        ended_at: addSeconds(now, 40 * DAY),
        days_remaining: 40,
        periods: [{ source: 'payment' }, { source: 'admin', payment_id: null, tariff_id: tariff.id }],
      });
      expect((await shop.periods(user))[1]).toMatchObject({ reason: 'gift', device_limit: 5, price_minor: 999 });
    });

    test('20 grants at once add up', async () => {
      const { shop } = world;
      const user = await shop.person();
      const { id: tariff_id } = await shop.tariff({ duration_days: 1 });
      const grant = () => shop.admin.subscription.grant({ user_id: user.id, tariff_id });
      await Promise.all(Array.from({ length: 20 }, grant));
      expect((await shop.periods(user)).at(-1)?.ends_at).toBe(addSeconds(shop.clock.now(), 20 * DAY));
    });

    test('needs a user and a tariff that are there, and a chain that can grow', async () => {
      const { shop } = world;
      const { id: tariff_id } = await shop.tariff();
      const grant = shop.admin.subscription.grant;
      await expect(grant({ user_id: 2_000_000_000, tariff_id })).rejects.toThrow('user_not_found');
      const user = await subscriber({ duration_days: null });
      await expect(grant({ user_id: user.id, tariff_id: 2_000_000_000 })).rejects.toThrow('tariff_not_found');
      await expect(grant({ user_id: user.id, tariff_id })).rejects.toThrow('already_lifetime');
      const gone = await shop.person();
      await updateUser(shop.store, gone.id, { removed_at: shop.clock.now(), email: null });
      await expect(grant({ user_id: gone.id, tariff_id })).rejects.toThrow('user_not_found');
    });

    test('D2: is not for users; a service grants to users, never to admins', async () => {
      const { shop } = world;
      const [user, boss] = [await shop.person(), await shop.person({ role: 'admin' })];
      const { id: tariff_id } = await shop.tariff();
      const own = shop.as(customer(user)).subscription.grant({ user_id: user.id, tariff_id });
      await expect(own).rejects.toThrow('admin_required');
      const bot = shop.as(service).subscription;
      await expect(bot.grant({ user_id: boss.id, tariff_id })).rejects.toThrow('not_allowed');
      await expect(bot.grant({ user_id: user.id, tariff_id })).resolves.toMatchObject({ user_id: user.id });
      expect(await shop.periods(boss)).toEqual([]);
    });

    test('wakes the reconciler and leaves an audit row', async () => {
      const { shop } = world;
      const before = shop.woken.reconciler;
      const user = await subscriber();
      expect(shop.woken.reconciler).toBe(before + 1);
      const [row] = await listAudit(shop.store, { target: `user:${user.id}`, action: 'subscription.grant' });
      const [period] = await shop.periods(user);
      expect(JSON.parse(row?.details ?? '')).toMatchObject({ period_id: period?.id });
    });
  });

  describe('extending', () => {
    test('adds days to the end of the chain, on the terms the user has', async () => {
      const { shop } = world;
      const user = await subscriber({ device_limit: 4, grace_days: 2 });
      const input = { user_id: user.id, days: 3, reason: 'outage' };
      expect(await shop.admin.subscription.extend(input)).toEqual({ msg: 'subscription extended', users: 1 });
      expect((await shop.periods(user))[1]).toMatchObject({
        duration_days: 3,
        device_limit: 4,
        grace_days: 2,
        price_minor: 0,
        source: 'admin',
        reason: 'outage',
        starts_at: addSeconds(shop.clock.now(), 30 * DAY),
        ends_at: addSeconds(shop.clock.now(), 33 * DAY),
      });
    });

    test('takes no terms from a period that was revoked', async () => {
      const { shop } = world;
      const user = await subscriber({ device_limit: 1 });
      const { id: tariff_id } = await shop.tariff({ device_limit: 10 });
      await shop.admin.subscription.grant({ user_id: user.id, tariff_id });
      const [, second] = await shop.periods(user);
      await shop.admin.subscription.revoke({ period_id: second?.id ?? 0, reason: 'mistake' });
      await shop.admin.subscription.extend({ user_id: user.id, days: 1, reason: 'outage' });
      expect((await shop.periods(user))[2]).toMatchObject({ device_limit: 1 });
    });

    test('works in grace, and not where there is nothing to add to', async () => {
      const { shop } = world;
      const extend = (user: UserRow) => shop.admin.subscription.extend({ user_id: user.id, days: 1, reason: 'outage' });
      const user = await subscriber({ duration_days: 1, grace_days: 2 });
      const forever = await subscriber({ duration_days: null });
      shop.clock.advance(2 * DAY);
      await extend(user);
      expect((await shop.periods(user))[1]).toMatchObject({ starts_at: shop.clock.now() });
      shop.clock.advance(4 * DAY);
      await expect(extend(user)).rejects.toThrow('nothing_to_extend');
      await expect(extend(await shop.person())).rejects.toThrow('nothing_to_extend');
      await expect(extend(forever)).rejects.toThrow('already_lifetime');
    });

    test('by server reaches everybody with a device there once, and passes over who has nothing to add to', async () => {
      const { shop } = world;
      const [here, elsewhere] = [await server(), await server()];
      const [two, one, other] = [await subscriber(), await subscriber(), await subscriber()];
      const [forever, nothing, gone] = [
        await subscriber({ duration_days: null }),
        await shop.person(),
        await subscriber(),
      ];
      for (const user of [two, two, one, forever, nothing, gone]) await device(user, here);
      await device(other, elsewhere);
      await updateUser(shop.store, gone.id, { removed_at: shop.clock.now(), email: null });
      const input = { server_id: here, days: 2, reason: 'outage' };
      expect(await shop.admin.subscription.extend(input)).toMatchObject({ users: 2 });
      const lengths = async (user: UserRow) => (await shop.periods(user)).map(({ duration_days }) => duration_days);
      expect(await lengths(two)).toEqual([30, 2]);
      expect(await lengths(one)).toEqual([30, 2]);
      for (const user of [other, gone]) expect(await lengths(user)).toEqual([30]);
      expect(await lengths(forever)).toEqual([null]);
    });

    test('by server runs beside webhooks of the same users, and loses nothing', async () => {
      const { shop } = world;
      const here = await server();
      const orders = [await shop.order(), await shop.order(), await shop.order()];
      for (const { user, payment } of orders) {
        await shop.deliver(paid(payment));
        await device(user, here);
      }
      const extend = () => shop.admin.subscription.extend({ server_id: here, days: 1, reason: 'outage' });
      const more = { payment: { apply: 'extend' } };
      const next = await Promise.all(orders.map(({ user }) => shop.order({ user, ...more })));
      await Promise.all([extend(), ...next.map(({ payment }) => shop.deliver(paid(payment))), extend()]);
      for (const { user } of orders) {
        const days = (await shop.periods(user)).map(({ duration_days }) => duration_days ?? 0);
        expect(days.toSorted((a, b) => a - b)).toEqual([1, 1, 30, 30]);
      }
    });

    test('names exactly one user or server, and is for admins', async () => {
      const { shop } = world;
      const user = await subscriber();
      const { extend } = shop.admin.subscription;
      const rest = { days: 1, reason: 'outage' };
      await expect(extend(rest)).rejects.toThrow('validation_failed');
      await expect(extend({ ...rest, user_id: user.id, server_id: 1 })).rejects.toThrow('validation_failed');
      await expect(extend({ ...rest, user_id: user.id, days: 0 })).rejects.toThrow('validation_failed');
      await expect(extend({ ...rest, user_id: user.id, reason: ' ' })).rejects.toThrow('validation_failed');
      await expect(extend({ ...rest, server_id: 2_000_000_000 })).rejects.toThrow('server_not_found');
      await expect(extend({ ...rest, user_id: 2_000_000_000 })).rejects.toThrow('user_not_found');
      const bot = shop.as(service).subscription.extend({ ...rest, user_id: user.id });
      await expect(bot).rejects.toThrow('not_allowed');
    });
  });

  describe('revoking', () => {
    test('takes back what is left, and the next period starts at once', async () => {
      const { shop } = world;
      const user = await subscriber();
      await shop.admin.subscription.grant({ user_id: user.id, tariff_id: (await shop.tariff()).id });
      shop.clock.advance(10 * DAY);
      const now = shop.clock.now();
      const [first] = await shop.periods(user);
      const left = await shop.admin.subscription.revoke({ period_id: first?.id ?? 0, reason: 'fraud' });
      expect(left).toMatchObject({ status: 'active', ended_at: addSeconds(now, 30 * DAY), days_remaining: 30 });
      expect(await shop.periods(user)).toMatchObject([{ ends_at: now, revoked_at: now }, { starts_at: now }]);
    });

    test('the only period leaves no subscription and no grace', async () => {
      const { shop } = world;
      const user = await subscriber({ grace_days: 5 });
      const [period] = await shop.periods(user);
      const revoke = () => shop.admin.subscription.revoke({ period_id: period?.id ?? 0, reason: 'fraud' });
      expect(await revoke()).toBeNull();
      await expect(revoke()).rejects.toThrow('period_over');
    });

    test('a period that is over, or not there, is refused', async () => {
      const { shop } = world;
      const user = await subscriber({ duration_days: 1 });
      const [period] = await shop.periods(user);
      shop.clock.advance(DAY);
      const { revoke } = shop.admin.subscription;
      await expect(revoke({ period_id: period?.id ?? 0, reason: 'x' })).rejects.toThrow('period_over');
      await expect(revoke({ period_id: 2_000_000_000, reason: 'x' })).rejects.toThrow('period_not_found');
    });
  });

  test('a list shows one chain a user, by status, user and end, counted when asked', async () => {
    const { shop } = world;
    const active = await subscriber();
    const grace = await subscriber({ duration_days: 1, grace_days: 3 });
    const expired = await subscriber({ duration_days: 1 });
    const revoked = await subscriber();
    const [period] = await shop.periods(revoked);
    shop.clock.advance(2 * DAY);
    await shop.admin.subscription.revoke({ period_id: period?.id ?? 0, reason: 'fraud' });
    const after_id = active.id - 1;
    const list = shop.as(service).subscription.list;
    const all = await list({ after_id });
    expect(all.map(({ user_id, status }) => [user_id, status])).toEqual([
      [active.id, 'active'],
      [grace.id, 'grace'],
      [expired.id, 'expired'],
      [revoked.id, 'revoked'],
    ]);
    for (const one of all) expect(await list({ after_id, status: one.status })).toEqual([one]);
    expect(await list({ user_id: grace.id })).toEqual([all[1]]);
    expect(await list({ after_id, skip: 1, limit: 2 })).toEqual(all.slice(1, 3));
    const responseHeaders = new Map<string, string>();
    const calls = shop.as(service, { responseHeaders }).subscription;
    const ended = await calls.list({ after_id, ends_before: addSeconds(shop.clock.now(), 1), with_total: true });
    expect(ended.map(({ user_id }) => user_id)).toEqual([grace.id, expired.id, revoked.id]);
    expect(Number(responseHeaders.get('x-total-count'))).toBeGreaterThanOrEqual(3);
    await expect(shop.as(customer(active)).subscription.list({})).rejects.toThrow('admin_required');
  });
});
