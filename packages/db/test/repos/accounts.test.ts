import { describe, expect, test } from 'vitest';
import {
  claimIdempotencyKey,
  completeIdempotencyKey,
  countAudit,
  countUsers,
  ensureInstallId,
  findApiKeyByHash,
  findFamilyRevocation,
  findIdempotencyKey,
  findSession,
  findSessionByTokenHash,
  findUserByEmail,
  findUserById,
  findUserByTelegramId,
  findUserForSession,
  getInstallId,
  getSetting,
  hasSessionFrom,
  type IdempotencyKeyRow,
  insertApiKey,
  insertAudit,
  insertSession,
  insertUserOnce,
  listApiKeys,
  listAudit,
  listLiveFamilies,
  listUsers,
  listUsersByIds,
  lockAdmins,
  lockUser,
  purgeIdempotencyKeys,
  purgeSessions,
  putSetting,
  releaseIdempotencyKey,
  replaceSuccessor,
  revokeApiKey,
  revokeFamily,
  revokeUserSessions,
  type SessionRow,
  type Store,
  setSettingOnce,
  setSuccessor,
  takeOverIdempotencyKey,
  touchApiKey,
  updateUser,
  useSession,
} from '../../src/index.ts';
import { engines, openTestStore } from '../../src/testing.ts';
import { addUser, at, unique } from '../fixtures.ts';

describe.each(engines)('users on %s', (engine) => {
  test('are found by id, e-mail and Telegram id, locked or not', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store, { telegram_id: 7_000_000_000 });
    expect(await findUserById(store, user.id)).toEqual(user);
    expect(await findUserByEmail(store, user.email as string)).toEqual(user);
    expect(await findUserByTelegramId(store, 7_000_000_000)).toEqual(user);
    expect(await store.transaction((tx) => lockUser(tx, user.id))).toEqual(user);
    expect(await findUserById(store, 999)).toBeUndefined();
    expect(await listUsersByIds(store, [user.id, 999])).toEqual([user]);
    expect(await listUsersByIds(store, [])).toEqual([]);
  });

  test('get-or-create inserts one account however many callers come at once', async () => {
    await using store = await openTestStore(engine);
    const insert = () => store.transaction((tx) => insertUserOnce(tx, { telegram_id: 7, created_at: at(0) }));
    const inserted = await Promise.all(Array.from({ length: 8 }, insert));
    expect(inserted.filter((user) => user !== undefined)).toHaveLength(1);
    expect(await countUsers(store)).toBe(1);
  });

  test('a list is filtered, paged by offset and by key, and counted as it is filtered', async () => {
    await using store = await openTestStore(engine);
    const users = [];
    for (let n = 0; n < 5; n++) users.push(await addUser(store, n % 2 === 0 ? {} : { status: 'blocked' }));
    const ids = users.map((user) => user.id);
    const idsOf = async (...args: [Parameters<typeof listUsers>[1], Parameters<typeof listUsers>[2]?]) =>
      (await listUsers(store, ...args)).map((user) => user.id);
    expect(await idsOf({})).toEqual(ids);
    expect(await idsOf({}, { skip: 1, limit: 2 })).toEqual(ids.slice(1, 3));
    expect(await idsOf({}, { afterId: ids[2], limit: 10 })).toEqual(ids.slice(3));
    expect(await idsOf({ status: 'blocked' })).toEqual([ids[1], ids[3]]);
    expect(await idsOf({ email: users[2]?.email as string, telegramId: undefined })).toEqual([ids[2]]);
    expect(await countUsers(store, { status: 'blocked' })).toBe(2);
  });

  test('removed accounts are listed only on request', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    expect(await updateUser(store, user.id, { removed_at: at(1), email: null })).toMatchObject({ email: null });
    expect(await listUsers(store)).toEqual([]);
    expect(await countUsers(store, { includeRemoved: true })).toBe(1);
  });

  test('admins are locked together, without those that were removed', async () => {
    await using store = await openTestStore(engine);
    const admin = await addUser(store, { role: 'admin' });
    await addUser(store, { role: 'admin', removed_at: at(0) });
    await addUser(store);
    expect(await store.transaction(lockAdmins)).toEqual([admin]);
  });
});

describe.each(engines)('sessions on %s', (engine) => {
  test('the first of a login names its family, the next ones join it', async () => {
    await using store = await openTestStore(engine);
    const { first, second } = await loginAndRefresh(store);
    expect(first.family_id).toBe(first.id);
    expect(second.family_id).toBe(first.id);
    expect(await findSession(store, first.id)).toMatchObject({ family_id: first.id });
    expect(await findSessionByTokenHash(store, second.token_hash)).toEqual(second);
  });

  test('a refresh token is spent once, however many try at once', async () => {
    await using store = await openTestStore(engine);
    const session = await login(store, await addUser(store));
    const uses = await Promise.all(Array.from({ length: 6 }, () => useSession(store, session.id, at(1))));
    expect(uses.filter((use) => use !== undefined)).toEqual([{ ...session, used_at: at(1) }]);
  });

  test('a revoked refresh token cannot be spent', async () => {
    await using store = await openTestStore(engine);
    const session = await login(store, await addUser(store));
    expect(await revokeFamily(store, session.id, at(1))).toBe(1);
    expect(await useSession(store, session.id, at(2))).toBeUndefined();
    expect(await revokeFamily(store, session.id, at(3))).toBe(0);
    expect(await findFamilyRevocation(store, session.id)).toBe(at(1));
    expect(await findFamilyRevocation(store, 999)).toBeUndefined();
  });

  test('a successor that was never used is replaced; one that was is not', async () => {
    await using store = await openTestStore(engine);
    const { first, second } = await loginAndRefresh(store);
    const replace = (oldId: number, newId: number) =>
      store.transaction((tx) =>
        replaceSuccessor(tx, { id: first.id, oldSuccessorId: oldId, newSuccessorId: newId, at: at(9) }),
      );
    const third = await join(store, second);
    expect(await replace(second.id, third.id)).toBe(true);
    expect(await findSession(store, first.id)).toMatchObject({ successor_id: third.id });
    expect(await findSession(store, second.id)).toMatchObject({ revoked_at: at(9) });
    await useSession(store, third.id, at(10));
    expect(await replace(third.id, second.id)).toBe(false);
  });

  test('the user of an access token comes with whether its login still lives', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const session = await login(store, user);
    expect(await findUserForSession(store, user.id, session.id)).toEqual({ user, sessionRevoked: false });
    expect(await findUserForSession(store, user.id, 999)).toEqual({ user, sessionRevoked: true });
    const stranger = await addUser(store);
    expect(await findUserForSession(store, stranger.id, session.id)).toEqual({ user: stranger, sessionRevoked: true });
    expect(await findUserForSession(store, 999, session.id)).toBeUndefined();
    await revokeFamily(store, session.id, at(1));
    expect(await findUserForSession(store, user.id, session.id)).toEqual({ user, sessionRevoked: true });
  });

  test('all logins of a user end but the one that stays', async () => {
    await using store = await openTestStore(engine);
    const user = await addUser(store);
    const [kept, other] = [await login(store, user), await login(store, user)];
    expect(await revokeUserSessions(store, user.id, { at: at(1), exceptFamilyId: kept.id })).toBe(1);
    expect(await findFamilyRevocation(store, kept.id)).toBeNull();
    expect(await findFamilyRevocation(store, other.id)).toBe(at(1));
    expect(await revokeUserSessions(store, user.id, { at: at(2) })).toBe(1);
  });

  test('the list of logins shows one entry each, as last refreshed, and only what can be refreshed', async () => {
    await using store = await openTestStore(engine);
    const { first, second, user } = await loginAndRefresh(store);
    const revoked = await login(store, user);
    await revokeFamily(store, revoked.id, at(1));
    expect(await listLiveFamilies(store, user.id, at(10))).toEqual([
      {
        id: first.id,
        created_at: first.created_at,
        refreshed_at: second.created_at,
        expires_at: second.expires_at,
        user_agent: null,
        ip: '192.0.2.1',
      },
    ]);
    expect(await listLiveFamilies(store, user.id, second.expires_at)).toEqual([]);
  });

  test('an address is known from an earlier login of the same user only', async () => {
    await using store = await openTestStore(engine);
    const { user } = await loginAndRefresh(store);
    expect(await hasSessionFrom(store, user.id, '192.0.2.1')).toBe(true);
    expect(await hasSessionFrom(store, user.id, '192.0.2.2')).toBe(false);
    expect(await hasSessionFrom(store, (await addUser(store)).id, '192.0.2.1')).toBe(false);
  });

  test('a login is purged whole, after the last of its tokens ended', async () => {
    await using store = await openTestStore(engine);
    const { second } = await loginAndRefresh(store);
    expect(await purgeSessions(store, second.expires_at)).toBe(0);
    expect(await purgeSessions(store, at(1_000_000))).toBe(2);
  });
});

describe.each(engines)('API keys on %s', (engine) => {
  test('are found by their hash with their scopes, touched, revoked once and listed', async () => {
    await using store = await openTestStore(engine);
    const key = await insertApiKey(store, {
      name: 'bot',
      key_hash: 'abc',
      hint: 'vpk_12',
      scopes: ['users:read', 'peers:write'],
      created_at: at(0),
    });
    await touchApiKey(store, key.id, at(5));
    expect(await findApiKeyByHash(store, 'abc')).toEqual({ ...key, last_used_at: at(5) });
    expect(key.scopes).toEqual(['users:read', 'peers:write']);
    expect(await revokeApiKey(store, key.id, at(6))).toBe(true);
    expect(await revokeApiKey(store, key.id, at(7))).toBe(false);
    expect(await listApiKeys(store)).toMatchObject([{ id: key.id, revoked_at: at(6) }]);
  });
});

describe.each(engines)('idempotency keys on %s', (engine) => {
  const name = { actor: 'user:1', procedure: 'payment.create', key: 'k' };
  const claim = (store: Store, seconds: number, hash = 'h') =>
    claimIdempotencyKey(store, {
      ...name,
      request_hash: hash,
      lease_until: at(seconds + 60),
      created_at: at(seconds),
      expires_at: at(seconds + 1000),
    });

  function granted(row: IdempotencyKeyRow | undefined): IdempotencyKeyRow {
    if (row === undefined) throw new Error('the key was not free');
    return row;
  }

  test('one of many calls at once gets to run', async () => {
    await using store = await openTestStore(engine);
    const claims = await Promise.all(Array.from({ length: 6 }, () => claim(store, 0)));
    expect(claims.filter((row) => row !== undefined)).toHaveLength(1);
  });

  test('a stored answer survives a release, a claim without one does not', async () => {
    await using store = await openTestStore(engine);
    const first = granted(await claim(store, 0));
    await releaseIdempotencyKey(store, first);
    expect(await findIdempotencyKey(store, name)).toBeUndefined();
    const second = granted(await claim(store, 1));
    expect(await completeIdempotencyKey(store, second, 'sealed')).toBe(true);
    await releaseIdempotencyKey(store, second);
    expect(await findIdempotencyKey(store, name)).toMatchObject({ answer: 'sealed', request_hash: 'h' });
  });

  test('a call that died is taken over by one repeat after its lease, a finished one never', async () => {
    await using store = await openTestStore(engine);
    const first = granted(await claim(store, 0));
    const { id } = first;
    const takeOver = (seconds: number) =>
      takeOverIdempotencyKey(store, id, { now: at(seconds), leaseUntil: at(seconds + 60) });
    expect(await takeOver(59)).toBe(false);
    expect((await Promise.all([takeOver(60), takeOver(60)])).sort()).toEqual([false, true]);
    const second = { id, lease_until: at(120) };
    // Slow, not dead: its effect must not happen beside that of the other.
    expect(await completeIdempotencyKey(store, first, 'late')).toBe(false);
    await releaseIdempotencyKey(store, first);
    expect(await completeIdempotencyKey(store, second, 'sealed')).toBe(true);
    expect(await completeIdempotencyKey(store, second, 'again')).toBe(false);
    expect(await findIdempotencyKey(store, name)).toMatchObject({ answer: 'sealed' });
    expect(await takeOver(500)).toBe(false);
  });

  test('an expired key is new again, purged or not', async () => {
    await using store = await openTestStore(engine);
    await completeIdempotencyKey(store, granted(await claim(store, 0)), 'sealed');
    expect(await claim(store, 999)).toBeUndefined();
    expect(await claim(store, 1000, 'other')).toMatchObject({ answer: null, request_hash: 'other' });
    expect(await purgeIdempotencyKeys(store, at(1999))).toBe(0);
    expect(await purgeIdempotencyKeys(store, at(2000))).toBe(1);
  });
});

describe.each(engines)('settings on %s', (engine) => {
  test('what happens once in the life of a database happens for one caller', async () => {
    await using store = await openTestStore(engine);
    const set = (value: string) => store.transaction((tx) => setSettingOnce(tx, 'promoted', value));
    const results = await Promise.all([set('a'), set('b'), set('c')]);
    expect(results.filter(Boolean)).toHaveLength(1);
    await putSetting(store, 'promoted', 'd');
    expect(await getSetting(store, 'promoted')).toBe('d');
    expect(await getSetting(store, 'nothing')).toBeUndefined();
  });

  test('the install id is the first candidate for ever', async () => {
    await using store = await openTestStore(engine);
    await expect(getInstallId(store)).rejects.toThrow(/install id/);
    expect(await ensureInstallId(store, 'one')).toBe('one');
    expect(await ensureInstallId(store, 'two')).toBe('one');
  });
});

describe.each(engines)('the audit log on %s', (engine) => {
  test('is filtered and counted', async () => {
    await using store = await openTestStore(engine);
    for (const [index, action] of ['user.block', 'user.unblock', 'user.block'].entries()) {
      await insertAudit(store, { at: at(index), actor: 'user:1', action, target: 'user:2', details: '{}' });
    }
    expect((await listAudit(store, { action: 'user.block' })).map((row) => row.at)).toEqual([at(0), at(2)]);
    expect(await countAudit(store, { target: 'user:2', since: at(1) })).toBe(2);
  });
});

function login(store: Store, user: { id: number }): Promise<SessionRow> {
  const session = {
    user_id: user.id,
    token_hash: unique('hash'),
    ip: '192.0.2.1',
    created_at: at(0),
    expires_at: at(100),
  };
  return store.transaction((tx) => insertSession(tx, session));
}

function join(store: Store, earlier: SessionRow): Promise<SessionRow> {
  const { user_id, family_id } = earlier;
  const session = {
    user_id,
    family_id,
    token_hash: unique('hash'),
    ip: '192.0.2.1',
    created_at: at(5),
    expires_at: at(200),
  };
  return store.transaction((tx) => insertSession(tx, session));
}

async function loginAndRefresh(store: Store) {
  const user = await addUser(store);
  const first = await login(store, user);
  const second = await join(store, first);
  await useSession(store, first.id, at(5));
  await setSuccessor(store, first.id, second.id);
  return { user, first, second };
}
