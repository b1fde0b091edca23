import { countUsers, listAudit, updateUser } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { codeFrom, PROMOTE_SECRET, problemFrom, race, World } from './world.ts';

describe.each(engines)('promotion on %s', (engine) => {
  test('the secret makes the first admin, who can do what admins do from his next call on', async () => {
    await using world = await World.open(engine);
    const alice = await world.person();
    const answer = await world.as().auth.promote({ user_id: alice.id, secret: PROMOTE_SECRET });
    expect(answer).toEqual({ msg: 'user promoted', user_id: alice.id });
    expect(await alice.api.auth.me()).toMatchObject({ is_admin: true });
    expect(await alice.api.user.list({})).toHaveLength(1);
  });

  test('D6: the secret works once in the life of a database, whatever becomes of that admin', async () => {
    await using world = await World.open(engine);
    const [first, second, third] = [await world.person(), await world.person(), await world.person()];
    const bySecret = (user_id: number) => world.as().auth.promote({ user_id, secret: PROMOTE_SECRET });
    await bySecret(first.id);
    const refusal = await problemFrom(bySecret(second.id));
    expect(refusal).toMatchObject({ status: 403, detail: 'Admin privileges required to promote' });
    await first.api.auth.promote({ user_id: third.id });
    await third.api.user.remove({ id: first.id });
    expect(await codeFrom(bySecret(second.id))).toBe('promotion_refused');
    await updateUser(world.store, third.id, { role: 'user' });
    expect(await codeFrom(bySecret(second.id))).toBe('promotion_refused');
  });

  test('D6: of many uses of the secret at once one succeeds', async () => {
    await using world = await World.open(engine);
    const people = await Promise.all(Array.from({ length: 10 }, () => world.person()));
    const { answers, codes } = await race(people.length, (index) =>
      world.as().auth.promote({ user_id: people[index]?.id ?? 0, secret: PROMOTE_SECRET }),
    );
    expect(answers).toHaveLength(1);
    expect(new Set(codes)).toEqual(new Set(['promotion_refused']));
    expect(await countUsers(world.store, { role: 'admin' })).toBe(1);
  });

  test('the secret is not spent on a user who does not exist', async () => {
    await using world = await World.open(engine);
    const alice = await world.person();
    const promote = (user_id: number) => world.as().auth.promote({ user_id, secret: PROMOTE_SECRET });
    expect(await problemFrom(promote(999))).toMatchObject({ status: 404, detail: 'User not found' });
    expect(await promote(alice.id)).toMatchObject({ user_id: alice.id });
  });

  test.each([undefined, null, '', 'wrong', PROMOTE_SECRET.slice(0, -1), `${PROMOTE_SECRET} `])(
    'another secret is refused before anything is looked up: %j',
    async (secret) => {
      await using world = await World.open(engine);
      for (const user_id of [(await world.person()).id, 999]) {
        expect(await codeFrom(world.as().auth.promote({ user_id, secret }))).toBe('promotion_refused');
      }
    },
  );

  test('without a configured secret that way is closed', async () => {
    await using world = await World.open(engine, { env: { PROMOTE_SECRET: undefined } });
    const { id } = await world.person();
    for (const secret of [undefined, '', 'undefined', PROMOTE_SECRET]) {
      expect(await codeFrom(world.as().auth.promote({ user_id: id, secret }))).toBe('promotion_refused');
    }
  });

  test('D5: a blocked admin cannot promote', async () => {
    await using world = await World.open(engine);
    const [admin, other, friend] = [await world.admin(), await world.admin(), await world.person()];
    await other.api.user.block({ id: admin.id });
    const attempt = await problemFrom(admin.api.auth.promote({ user_id: friend.id }));
    expect(attempt).toMatchObject({ status: 403, detail: 'User not active' });
    expect((await world.row(friend.id)).role).toBe('user');
  });

  test('a user cannot promote himself, an API key cannot promote at all', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    const bot = await world.bot(admin, ['users:read', 'users:write']);
    expect(await codeFrom(alice.api.auth.promote({ user_id: alice.id }))).toBe('promotion_refused');
    for (const secret of [undefined, PROMOTE_SECRET]) {
      expect(await codeFrom(bot.auth.promote({ user_id: alice.id, secret }))).toBe('not_allowed');
    }
  });

  test('promotions are on record, without the secret', async () => {
    await using world = await World.open(engine);
    const alice = await world.person();
    await world.as().auth.promote({ user_id: alice.id, secret: PROMOTE_SECRET });
    const rows = await listAudit(world.store, { action: 'user.promote' });
    expect(rows).toMatchObject([
      {
        actor: 'public',
        target: `user:${alice.id}`,
        ip: '203.0.113.7',
        request_id: 'req-1',
        details: '{"by":"secret"}',
      },
    ]);
  });
});

describe.each(engines)('demotion on %s', (engine) => {
  test('takes the role away at once', async () => {
    await using world = await World.open(engine);
    const [admin, other] = [await world.admin(), await world.admin()];
    expect(await admin.api.auth.demote({ user_id: other.id })).toEqual({ msg: 'user demoted', user_id: other.id });
    expect(await problemFrom(other.api.user.list({}))).toMatchObject({
      status: 403,
      detail: 'Admin privileges required',
    });
  });

  test('the last admin can be neither demoted, blocked nor removed', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const { id } = admin;
    expect(await codeFrom(admin.api.auth.demote({ user_id: id }))).toBe('last_admin');
    expect(await codeFrom(admin.api.user.block({ id }))).toBe('last_admin');
    expect(await codeFrom(admin.api.user.remove({ id }))).toBe('last_admin');
  });

  test('a blocked admin does not count as one who is left', async () => {
    await using world = await World.open(engine);
    const [admin, other] = [await world.admin(), await world.admin()];
    await admin.api.user.block({ id: other.id });
    expect(await codeFrom(admin.api.auth.demote({ user_id: admin.id }))).toBe('last_admin');
  });

  test('admins who demote each other at once leave one', async () => {
    await using world = await World.open(engine);
    for (let round = 0; round < 5; round += 1) {
      await world.store.kysely.updateTable('users').set({ role: 'user' }).execute();
      const [a, b] = [await world.admin(), await world.admin()];
      await Promise.allSettled([a.api.auth.demote({ user_id: b.id }), b.api.auth.demote({ user_id: a.id })]);
      expect(await countUsers(world.store, { role: 'admin' })).toBe(1);
    }
  });

  test('a user and an API key cannot demote', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const bot = await world.bot(admin, ['users:write']);
    expect(await codeFrom((await world.person()).api.auth.demote({ user_id: admin.id }))).toBe('admin_required');
    expect(await codeFrom(bot.auth.demote({ user_id: admin.id }))).toBe('not_allowed');
  });
});
