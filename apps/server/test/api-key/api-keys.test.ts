import { findApiKey, listAudit } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { codeFrom, race, START, World } from '../auth/world.ts';

describe.each(engines)('API keys on %s', (engine) => {
  test('a key is shown once, stored hashed and recognised by its beginning', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const { key, ...created } = await admin.api.apiKey.create({ name: 'Shop bot', scopes: ['users:read'] });
    expect(key).toMatch(/^vpk_[A-Za-z0-9_-]{43}$/);
    expect(created).toEqual({
      id: 1,
      name: 'Shop bot',
      hint: key.slice(0, 8),
      scopes: ['users:read'],
      created_by: admin.id,
      created_at: START,
      expires_at: null,
      last_used_at: null,
      revoked_at: null,
    });
    expect(await admin.api.apiKey.list({})).toEqual([created]);
    expect(JSON.stringify(await findApiKey(world.store, created.id))).not.toContain(key.slice(8));
    expect(JSON.stringify(await listAudit(world.store))).not.toContain(key.slice(8));
  });

  test('a key may do what its scopes say and nothing else', async () => {
    await using world = await World.open(engine);
    const bot = await world.bot(await world.admin(), ['users:read']);
    expect(await bot.user.list({})).toHaveLength(1);
    expect(await codeFrom(bot.user.ensure({ telegram_id: 1 }))).toBe('scope_required');
    expect(await codeFrom(bot.auth.me())).toBe('not_allowed');
    expect(await codeFrom(bot.auth.logout({}))).toBe('not_allowed');
  });

  test('a revoked key ends at once, and is revoked once', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const { id, key } = await admin.api.apiKey.create({ name: 'bot', scopes: ['users:read'] });
    expect(await admin.api.apiKey.revoke({ id })).toEqual({ msg: 'api key revoked', id });
    expect(await codeFrom(world.as(key).user.list({}))).toBe('invalid_token');
    expect(await codeFrom(admin.api.apiKey.revoke({ id }))).toBe('api_key_not_found');
    expect(await codeFrom(admin.api.apiKey.revoke({ id: 999 }))).toBe('api_key_not_found');
    expect(await admin.api.apiKey.list({})).toMatchObject([{ id, revoked_at: START }]);
  });

  test('a key ends when it was said to', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const expires_at = '2026-11-22T13:00:00.000Z';
    const { key } = await admin.api.apiKey.create({ name: 'bot', scopes: ['users:read'], expires_at });
    expect(await world.as(key).user.list({})).toHaveLength(1);
    world.clock.advance(3600);
    expect(await codeFrom(world.as(key).user.list({}))).toBe('invalid_token');
  });

  test('its last use is noted', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const { key } = await admin.api.apiKey.create({ name: 'bot', scopes: ['users:read'] });
    await world.as(key).user.list({});
    expect(await admin.api.apiKey.list({})).toMatchObject([{ last_used_at: START }]);
  });

  test('neither a user nor a key makes, lists or revokes keys', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const alice = await world.person();
    const bot = await world.bot(admin, ['users:read', 'users:write']);
    const calls = [
      (api: typeof bot) => api.apiKey.create({ name: 'more', scopes: ['peers:write'] }),
      (api: typeof bot) => api.apiKey.list({}),
      (api: typeof bot) => api.apiKey.revoke({ id: 1 }),
    ];
    for (const call of calls) {
      expect(await codeFrom(call(alice.api))).toBe('admin_required');
      expect(await codeFrom(call(bot))).toBe('not_allowed');
      expect(await codeFrom(call(world.as()))).toBe('not_authenticated');
    }
  });

  test.each([
    { name: '', scopes: ['users:read'] },
    { name: '  ', scopes: ['users:read'] },
    { name: 'a\u0000b', scopes: ['users:read'] },
    { name: 'bot', scopes: [] },
    { name: 'bot', scopes: ['admin'] },
    { name: 'bot', scopes: ['users:read'], expires_at: START },
    { name: 'bot', scopes: ['users:read'], expires_at: '0000-01-01T00:00:00.000Z' },
    { name: 'bot', scopes: ['users:read'], expires_at: 'tomorrow' },
    { name: 'bot', scopes: ['users:read'], key: 'vpk_mine' },
  ])('is refused: %j', async (input) => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    expect(await codeFrom(admin.api.apiKey.create(input as never))).toBe('validation_failed');
  });

  test('a scope that is named twice counts once, an expiry of null is none', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const scopes = ['users:read', 'users:read'] as const;
    const made = await admin.api.apiKey.create({ name: 'bot', scopes: [...scopes], expires_at: null });
    expect(made).toMatchObject({ scopes: ['users:read'], expires_at: null });
  });

  test('a repeat with the same Idempotency-Key answers the same key, whole, and stores it sealed', async () => {
    await using world = await World.open(engine);
    const admin = await world.admin();
    const keyed = world.as(admin.access_token, { idempotencyKey: 'make-bot' });
    const { answers, codes } = await race(5, () => keyed.apiKey.create({ name: 'bot', scopes: ['users:read'] }));
    for (const code of codes) expect(code).toBe('idempotency_in_progress');
    const again = await keyed.apiKey.create({ name: 'bot', scopes: ['users:read'] });
    for (const answer of answers) expect(answer).toEqual(again);
    expect(await admin.api.apiKey.list({})).toHaveLength(1);
    const stored = await world.store.kysely.selectFrom('idempotency_keys').selectAll().execute();
    expect(JSON.stringify(stored)).not.toContain(again.key);
  });
});
