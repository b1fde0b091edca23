import { findUserByEmail, insertUserOnce, type Store, type UserRow } from '@vpn-api/db';
import { assertAcceptablePassword } from '../crypto/passwords.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { FewAtOnce } from './few-at-once.ts';
import { tellUser } from './tell-user.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'passwords' | 'outbox'>;

interface Registration {
  /** In canonical form. */
  readonly email: string;
  readonly password: string;
}

/**
 * Registrations of one address wait for each other, per server. The unique column decides without it too; but each would
 * hash first, and fifty impatient clicks would fill the queue of hashes for everybody.
 */
const lines = new WeakMap<Store, FewAtOnce>();

/**
 * Makes an account with a password. An address that has one already, whoever made it, gives nothing but the refusal.
 * @throws DomainError `email_taken`, `password_too_short`, `password_too_common`, `overloaded`
 */
export async function registerUser(deps: Deps, registration: Registration): Promise<UserRow> {
  const { email, password } = registration;
  assertAcceptablePassword(password, email);
  return lineOf(deps.store).run(email, () => insertAccount(deps, registration));
}

async function insertAccount(deps: Deps, { email, password }: Registration): Promise<UserRow> {
  const { store, clock, passwords } = deps;
  if ((await findUserByEmail(store, email)) !== undefined) throw new DomainError('email_taken');
  const passwordHash = await passwords.hash(password);
  return store.transaction(async (tx) => {
    const user = await insertUserOnce(tx, { email, password_hash: passwordHash, created_at: clock.now() });
    if (user === undefined) throw new DomainError('email_taken');
    await tellUser(deps, tx, user);
    return user;
  });
}

function lineOf(store: Store): FewAtOnce {
  const line = lines.get(store) ?? new FewAtOnce(1);
  lines.set(store, line);
  return line;
}
