import { countUsers, listAudit, updateUser } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { codeFrom, type Person, problemFrom, race, START, World } from '../auth/world.ts';

async function setUp(world: World) {
  const admin: Person = await world.admin();
  const bot = await world.bot(admin, ['users:read', 'users:write']);
  return { admin, bot };
}

describe.each(engines)('user.ensure on %s', (engine) => {
  test('makes an account once and finds it from then on', async () => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    const made = await bot.user.ensure({ telegram_id: 5_000_000_001 });
    expect(made).toMatchObject({ email: null, telegram_id: 5_000_000_001, status: 'active', created_at: START });
    expect(await bot.user.ensure({ telegram_id: 5_000_000_001 })).toEqual(made);
    expect(await bot.user.ensure({ telegram_id: 5_000_000_001, email: null })).toEqual(made);
    const rows = await listAudit(world.store, { action: 'user.create' });
    expect(rows).toMatchObject([{ actor: 'key:1', target: `user:${made.id}` }]);
  });

  test('50 calls at once for one Telegram id make one account', async () => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    const { answers, codes } = await race(50, () => bot.user.ensure({ telegram_id: 77 }));
    expect(codes).toEqual([]);
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
    expect(await countUsers(world.store, { telegramId: 77 })).toBe(1);
  });

  test('calls at once that share one identifier make one account', async () => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    const both = { telegram_id: 78, email: 'a@example.com' };
    const inputs = [{ telegram_id: 78 }, { email: 'a@example.com' }, both, both, both];
    await race(20, (index) => bot.user.ensure(inputs[index % inputs.length] ?? both));
    const people = await countUsers(world.store);
    // The two lone identifiers may each have been first and made an account; they are never mixed up.
    expect([2, 3]).toContain(people);
    if (people === 3) expect(await codeFrom(bot.user.ensure(both))).toBe('identity_conflict');
    else expect(await bot.user.ensure(both)).toMatchObject(both);
  });

  test('fills in the identifier that an account made by a bot lacks', async () => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    const byEmail = await bot.user.ensure({ email: 'Customer@example.com' });
    expect(await bot.user.ensure({ email: 'customer@example.com', telegram_id: 9 })).toEqual({
      ...byEmail,
      telegram_id: 9,
    });
    expect(await bot.user.ensure({ telegram_id: 9 })).toMatchObject({ id: byEmail.id, email: 'customer@example.com' });
  });

  test('two identifiers of two users are a conflict, and so is another one in the place of the first', async () => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    await bot.user.ensure({ telegram_id: 1 });
    await bot.user.ensure({ email: 'a@example.com' });
    await bot.user.ensure({ telegram_id: 2, email: 'b@example.com' });
    const conflict = await problemFrom(bot.user.ensure({ telegram_id: 1, email: 'a@example.com' }));
    expect(conflict).toMatchObject({ status: 409, code: 'identity_conflict' });
    expect(await codeFrom(bot.user.ensure({ telegram_id: 2, email: 'c@example.com' }))).toBe('identity_conflict');
    expect(await codeFrom(bot.user.ensure({ telegram_id: 3, email: 'b@example.com' }))).toBe('identity_conflict');
  });

  test('an address that somebody registered without proving it finds nobody', async () => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    const alice = await world.person('alice@example.com');
    for (const identity of [{ email: 'alice@example.com' }, { email: 'alice@example.com', telegram_id: 4 }]) {
      expect(await codeFrom(bot.user.ensure(identity))).toBe('email_taken');
    }
    await updateUser(world.store, alice.id, { email_verified_at: START });
    expect(await bot.user.ensure({ email: 'alice@example.com' })).toMatchObject({ id: alice.id, email_verified: true });
  });

  test('an account that its owner registered is not handed to whoever types its address', async () => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    const alice = await world.person('alice@example.com');
    await updateUser(world.store, alice.id, { email_verified_at: START });
    const typed = bot.user.ensure({ email: 'alice@example.com', telegram_id: 666 });
    expect(await codeFrom(typed)).toBe('identity_conflict');
    expect((await world.row(alice.id)).telegram_id).toBeNull();
  });

  test('a bot gives no identifier to an admin', async () => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    const made = await bot.user.ensure({ email: 'boss@example.com' });
    await updateUser(world.store, made.id, { role: 'admin' });
    expect(await codeFrom(bot.user.ensure({ email: 'boss@example.com', telegram_id: 5 }))).toBe('identity_conflict');
    expect(await bot.user.ensure({ email: 'boss@example.com' })).toMatchObject({ id: made.id });
  });

  test('needs an identifier, and a scope', async () => {
    await using world = await World.open(engine);
    const { admin, bot } = await setUp(world);
    const reader = await world.bot(admin, ['users:read']);
    for (const nothing of [{}, { telegram_id: null }, { email: null, telegram_id: null }]) {
      expect(await codeFrom(bot.user.ensure(nothing))).toBe('validation_failed');
    }
    expect(await codeFrom(reader.user.ensure({ telegram_id: 1 }))).toBe('scope_required');
    expect(await codeFrom((await world.person()).api.user.ensure({ telegram_id: 1 }))).toBe('admin_required');
    expect(await codeFrom(world.as().user.ensure({ telegram_id: 1 }))).toBe('not_authenticated');
  });

  test.each([0, -1, 1.5, Number.MAX_SAFE_INTEGER + 2, '5'])('%j is no Telegram id', async (telegramId) => {
    await using world = await World.open(engine);
    const { bot } = await setUp(world);
    expect(await codeFrom(bot.user.ensure({ telegram_id: telegramId as number }))).toBe('validation_failed');
  });
});
