import {
  claimHostPeers,
  insertPayment,
  insertPeer,
  insertServer,
  listAudit,
  listHostPeers,
  listPayments,
  listPeers,
} from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { codeFrom, PASSWORD, problemFrom, START, World } from '../auth/world.ts';

async function addPeer(world: World, userId: number) {
  const server = await insertServer(world.store, {
    name: `server-${userId}`,
    driver: 'none',
    keys: 'given',
    mode: 'apply',
    pool_v4: '10.8.0.0/24',
    origin: 'api',
    created_at: START,
  });
  const key = `${'A'.repeat(42)}${userId}=`;
  const peer = await world.store.transaction((tx) =>
    insertPeer(tx, {
      user_id: userId,
      server_id: server.id,
      public_key: key,
      key_origin: 'server',
      address_index: 2,
      wg_ip: '10.8.0.2/32',
      allowed_ips: '0.0.0.0/0',
      applied_version: 1,
      applied_state: 'present',
      created_at: START,
    }),
  );
  const claim = { serverId: server.id, publicKeys: [key], at: START };
  await world.store.transaction((tx) => claimHostPeers(tx, claim));
  return peer;
}

function addPayment(world: World, { userId, tariffId }: { userId: number; tariffId: number }, status = 'completed') {
  return insertPayment(world.store, {
    reference: `ref-${userId}-${status}`,
    user_id: userId,
    tariff_id: tariffId,
    provider: 'manual',
    status: status as 'completed',
    list_amount_minor: 999,
    amount_minor: 999,
    currency: 'USD',
    tariff_snapshot: JSON.stringify({ tariff_name: 'Month' }),
    created_at: START,
    updated_at: START,
  });
}

describe.each(engines)('the list of users on %s', (engine) => {
  test('is ordered by id, paged and filtered', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin('admin@example.com');
    const bot = await world.bot(admin, ['users:read', 'users:write']);
    const alice = await world.person('alice@example.com');
    const telegram = await bot.user.ensure({ telegram_id: 12 });
    await admin.api.user.block({ id: alice.id });
    const ids = (users: readonly { id: number }[]) => users.map(({ id }) => id);
    expect(ids(await bot.user.list({}))).toEqual([admin.id, alice.id, telegram.id]);
    expect(ids(await bot.user.list({ skip: 1, limit: 1 }))).toEqual([alice.id]);
    expect(ids(await bot.user.list({ after_id: alice.id }))).toEqual([telegram.id]);
    expect(ids(await bot.user.list({ email: 'ALICE@example.com' }))).toEqual([alice.id]);
    expect(ids(await bot.user.list({ telegram_id: 12 }))).toEqual([telegram.id]);
    expect(ids(await bot.user.list({ status: 'blocked' }))).toEqual([alice.id]);
    expect(await bot.user.get({ id: alice.id })).toMatchObject({ email: 'alice@example.com', status: 'blocked' });
  });

  test('shows no password, and nothing to a user or a key without the scope', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    const other = await world.bot(admin, ['peers:read']);
    expect(JSON.stringify(await admin.api.user.list({}))).not.toMatch(/password|hash|token_version/);
    expect(await codeFrom(alice.api.user.list({}))).toBe('admin_required');
    expect(await codeFrom(alice.api.user.get({ id: alice.id }))).toBe('admin_required');
    expect(await codeFrom(other.user.list({}))).toBe('scope_required');
  });

  test('says what is not there', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    expect(await problemFrom(admin.api.user.get({ id: 999 }))).toMatchObject({ status: 404, detail: 'User not found' });
    for (const id of [0, -1, 2 ** 31, 1.5])
      expect(await codeFrom(admin.api.user.get({ id }))).toBe('validation_failed');
  });
});

describe.each(engines)('blocking on %s', (engine) => {
  test('cuts every session at once and wakes the reconciler', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    expect(await admin.api.user.block({ id: alice.id })).toMatchObject({ id: alice.id, status: 'blocked' });
    expect(world.wakes).toBe(1);
    expect(await problemFrom(alice.api.auth.me())).toMatchObject({ status: 403, detail: 'User not active' });
    expect(await codeFrom(world.as().auth.refresh({ refresh_token: alice.refresh_token }))).toBe(
      'invalid_refresh_token',
    );
    expect(await codeFrom(world.as().auth.login({ email: alice.email, password: PASSWORD }))).toBe(
      'invalid_credentials',
    );
  });

  test('is undone by unblocking, after which one signs in anew', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    await admin.api.user.block({ id: alice.id });
    expect(await admin.api.user.unblock({ id: alice.id })).toMatchObject({ status: 'active' });
    expect(world.wakes).toBe(2);
    expect(await codeFrom(alice.api.auth.me())).toBe('invalid_token');
    expect(await world.as().auth.login({ email: alice.email, password: PASSWORD })).toHaveProperty('access_token');
  });

  test('is on record once, however often it is asked for', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const { id } = await world.person();
    for (let time = 0; time < 3; time += 1) await admin.api.user.block({ id });
    for (let time = 0; time < 3; time += 1) await admin.api.user.unblock({ id });
    const actions = (await listAudit(world.store, { target: `user:${id}` })).map(({ action, actor }) => [
      action,
      actor,
    ]);
    expect(actions).toEqual([
      ['user.block', `user:${admin.id}`],
      ['user.unblock', `user:${admin.id}`],
    ]);
  });

  test('is for admins only, not for API keys', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    const bot = await world.bot(admin, ['users:read', 'users:write']);
    const calls = [
      (api: typeof bot) => api.user.block({ id: alice.id }),
      (api: typeof bot) => api.user.unblock({ id: alice.id }),
      (api: typeof bot) => api.user.remove({ id: alice.id }),
      (api: typeof bot) => api.user.revokeSessions({ id: alice.id }),
      (api: typeof bot) => api.user.update({ id: alice.id, email: 'new@example.com' }),
    ];
    for (const call of calls) {
      expect(await codeFrom(call(bot))).toBe('not_allowed');
      expect(await codeFrom(call(alice.api))).toBe('admin_required');
      expect(await codeFrom(call(world.as()))).toBe('not_authenticated');
    }
    expect(await alice.api.auth.me()).toMatchObject({ status: 'active', email: alice.email });
  });
});

describe.each(engines)('removing a user on %s', (engine) => {
  test('frees the identity, ends the sessions and keeps the payments', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person('alice@example.com');
    await admin.api.user.update({ id: alice.id, telegram_id: 42 });
    await addPayment(world, { userId: alice.id, tariffId: (await world.tariff()).id });
    expect(await admin.api.user.remove({ id: alice.id })).toEqual({ msg: 'user removed', user_id: alice.id });
    expect(await codeFrom(alice.api.auth.me())).toBe('invalid_token');
    expect(await codeFrom(world.as().auth.refresh({ refresh_token: alice.refresh_token }))).toBe(
      'invalid_refresh_token',
    );
    expect(await listPayments(world.store, { userId: alice.id })).toHaveLength(1);
    expect(await admin.api.user.list({})).toHaveLength(1);
    expect(await codeFrom(admin.api.user.get({ id: alice.id }))).toBe('user_not_found');
    const again = await world.person('alice@example.com');
    expect(again.id).not.toBe(alice.id);
    expect(await admin.api.user.update({ id: again.id, telegram_id: 42 })).toMatchObject({ telegram_id: 42 });
  });

  test('nothing personal is left of the account', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person('alice@example.com');
    await admin.api.user.remove({ id: alice.id });
    expect(await world.row(alice.id)).toMatchObject({
      email: null,
      telegram_id: null,
      password_hash: null,
      email_verified_at: null,
      role: 'user',
      status: 'blocked',
      removed_at: START,
    });
    expect(JSON.stringify(await listAudit(world.store))).not.toContain('alice');
  });

  test('takes the peers away: each key leaves a tombstone, and its address stays taken until the host confirms', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    const bob = await world.person();
    const peer = await addPeer(world, alice.id);
    const untouched = await addPeer(world, bob.id);
    await admin.api.user.remove({ id: alice.id });
    const [removed] = await listPeers(world.store, { userId: alice.id, which: 'all' });
    expect(removed).toMatchObject({ removed_at: START, address_index: 2, applied_version: 1, wanted_version: 2 });
    expect(await listHostPeers(world.store, peer.server_id)).toMatchObject([{ retired_at: START, gone_at: null }]);
    expect(await listPeers(world.store, { userId: bob.id })).toMatchObject([{ id: untouched.id, wanted_version: 1 }]);
    expect(await listHostPeers(world.store, untouched.server_id)).toMatchObject([{ retired_at: null }]);
    expect(world.wakes).toBe(1);
  });

  test('a removed user is not there for any call', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const { id } = await world.person();
    await admin.api.user.remove({ id });
    const calls = [
      () => admin.api.user.remove({ id }),
      () => admin.api.user.block({ id }),
      () => admin.api.user.unblock({ id }),
      () => admin.api.user.revokeSessions({ id }),
      () => admin.api.user.update({ id, email: 'x@example.com' }),
      () => admin.api.user.state({ id }),
      () => admin.api.auth.promote({ user_id: id }),
      () => admin.api.auth.demote({ user_id: id }),
    ];
    for (const call of calls) expect(await codeFrom(call())).toBe('user_not_found');
  });
});

describe.each(engines)('changing an account on %s', (engine) => {
  test('an admin signs a user out everywhere', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    expect(await admin.api.user.revokeSessions({ id: alice.id })).toEqual({
      msg: 'sessions revoked',
      user_id: alice.id,
    });
    expect(await codeFrom(alice.api.auth.me())).toBe('invalid_token');
    expect(await codeFrom(world.as().auth.refresh({ refresh_token: alice.refresh_token }))).toBe(
      'invalid_refresh_token',
    );
  });

  test('a new address counts as unverified, and what is left out stays', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const { id } = await world.person('alice@example.com');
    await admin.api.user.update({ id, telegram_id: 42 });
    await world.store.kysely.updateTable('users').set({ email_verified_at: START }).where('id', '=', id).execute();
    expect(await admin.api.user.update({ id, email: 'alice@example.com' })).toMatchObject({ email_verified: true });
    expect(await admin.api.user.update({ id, email: 'New@example.com' })).toMatchObject({
      email: 'new@example.com',
      email_verified: false,
      telegram_id: 42,
    });
    expect(await admin.api.user.update({ id, telegram_id: null })).toMatchObject({
      email: 'new@example.com',
      telegram_id: null,
    });
  });

  test("another's identity is refused", async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const [alice, bob] = [await world.person('alice@example.com'), await world.person('bob@example.com')];
    await admin.api.user.update({ id: bob.id, telegram_id: 42 });
    const update = admin.api.user.update;
    expect(await codeFrom(update({ id: alice.id, email: 'bob@example.com' }))).toBe('email_taken');
    expect(await codeFrom(update({ id: alice.id, telegram_id: 42 }))).toBe('identity_conflict');
    expect(await world.row(alice.id)).toMatchObject({ email: 'alice@example.com', telegram_id: null });
  });

  test('role, status and password cannot be set this way', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const { id } = await world.person();
    for (const extra of [{ role: 'admin' }, { status: 'blocked' }, { password: 'x' }, { token_version: 0 }]) {
      expect(await codeFrom(admin.api.user.update({ id, ...extra } as never))).toBe('validation_failed');
    }
  });
});

describe.each(engines)('user.state on %s', (engine) => {
  test('shows everything in one call', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    const tariff = await world.tariff();
    await admin.api.auth.assignTariff({ user_id: alice.id, tariff_id: tariff.id });
    const peer = await addPeer(world, alice.id);
    const done = await addPayment(world, { userId: alice.id, tariffId: tariff.id });
    const open = await addPayment(world, { userId: alice.id, tariffId: tariff.id }, 'pending');
    const failed = await addPayment(world, { userId: alice.id, tariffId: tariff.id }, 'failed');
    const state = await alice.api.user.state({ id: alice.id });
    expect(state).toMatchObject({
      user: { id: alice.id, email: alice.email },
      subscription: { status: 'active', tariff_name: 'Month' },
      device_limit: 3,
      devices_used: 1,
      paid_until: '2026-12-22T12:00:00.000Z',
      peers: [{ id: peer.id, state: 'active', wg_private_key: null, status: { allowed: true, reason: 'active' } }],
      open_payment: { id: open.id, status: 'pending' },
      last_payment: { id: failed.id, status: 'failed' },
    });
    expect(done.id).toBeLessThan(open.id);
  });

  test('of a user who has nothing yet', async () => {
    await using world = await World.open(engine);
    const alice = await world.person();
    expect(await alice.api.user.state({ id: alice.id })).toMatchObject({
      subscription: null,
      device_limit: 0,
      devices_used: 0,
      paid_until: null,
      peers: [],
      open_payment: null,
      last_payment: null,
    });
  });

  test("is one's own, or anybody's for an admin and a key with the scope", async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const [alice, bob] = [await world.person(), await world.person()];
    const bot = await world.bot(admin, ['users:read']);
    for (const api of [admin.api, bot]) {
      expect(await api.user.state({ id: alice.id })).toMatchObject({ user: { id: alice.id } });
      expect(await codeFrom(api.user.state({ id: 999 }))).toBe('user_not_found');
    }
    for (const id of [alice.id, 999]) {
      expect(await problemFrom(bob.api.user.state({ id }))).toMatchObject({ status: 403, detail: 'Not allowed' });
    }
  });
});
