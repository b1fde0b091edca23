import {
  findUserByEmail,
  findUserByTelegramId,
  insertUserOnce,
  lockUser,
  type Tx,
  type UserRow,
  updateUser,
} from '@vpn-api/db';
import { DomainError, invalidField } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { audit } from './audit.ts';
import type { Committing } from './committing.ts';
import { tellUser } from './tell-user.ts';
import { takenIdentity } from './update-user.ts';

/** At least one of the two. The e-mail is in canonical form. */
export interface Identity {
  readonly email?: string | undefined;
  readonly telegramId?: number | undefined;
}

interface Ensure extends Committing<UserRow> {
  readonly identity: Identity;
  readonly at: string;
  readonly deps: Pick<Services, 'clock' | 'outbox'>;
}

/** Each lost race means that somebody made the account meanwhile, which the next look finds. */
const MAX_ATTEMPTS = 5;

/**
 * Answers the account of a Telegram id or an e-mail, and makes it if there is none. An e-mail finds only accounts whose
 * address is proven or came from the operator: anybody may have registered with it. With both, the one that an account
 * made by the operator lacks is filled in; an account that a person made keeps the identity he gave it.
 * @throws DomainError `identity_conflict`, `email_taken`, `validation_failed`
 */
export async function ensureUser(
  { store, clock, outbox }: Pick<Services, 'store' | 'clock' | 'outbox'>,
  identity: Identity,
  committing: Committing<UserRow>,
): Promise<UserRow> {
  if (identity.email === undefined && identity.telegramId === undefined) {
    throw invalidField('telegram_id', 'is required when there is no email');
  }
  const ensure = { ...committing, identity, at: clock.now(), deps: { clock, outbox } };
  for (let attempt = 1; ; attempt += 1) {
    try {
      const user = await store.transaction((tx) => findOrMake(tx, ensure));
      if (user !== undefined) return user;
    } catch (error) {
      if (takenIdentity(error) === undefined) throw error;
    }
    if (attempt === MAX_ATTEMPTS) throw new DomainError('identity_conflict');
  }
}

async function findOrMake(tx: Tx, ensure: Ensure): Promise<UserRow | undefined> {
  const found = await findOwner(tx, ensure.identity);
  const user = found === undefined ? await make(tx, ensure) : await complete(tx, found, ensure);
  if (user !== undefined) await ensure.beforeCommit(tx, user);
  return user;
}

async function findOwner(tx: Tx, { email, telegramId }: Identity): Promise<UserRow | undefined> {
  const byTelegram = telegramId === undefined ? undefined : await findUserByTelegramId(tx, telegramId);
  const byEmail = email === undefined ? undefined : await findUserByEmail(tx, email);
  if (byEmail === undefined || byEmail.id === byTelegram?.id) return byTelegram;
  if (byTelegram !== undefined) throw new DomainError('identity_conflict');
  if (byEmail.email_verified_at === null && byEmail.origin !== 'service') throw new DomainError('email_taken');
  return byEmail;
}

/** Undefined when another call was faster. */
async function make(tx: Tx, { identity, at, source, deps }: Ensure): Promise<UserRow | undefined> {
  const { email, telegramId } = identity;
  const row = { email: email ?? null, telegram_id: telegramId ?? null, origin: 'service', created_at: at } as const;
  const user = await insertUserOnce(tx, row);
  if (user === undefined) return undefined;
  await audit(tx, { ...source, at, action: 'user.create', target: `user:${user.id}` });
  await tellUser(deps, tx, user);
  return user;
}

async function complete(tx: Tx, found: UserRow, { identity, at, source }: Ensure): Promise<UserRow | undefined> {
  if (missingIn(found, identity).length === 0) return found;
  const user = await lockUser(tx, found.id);
  if (user === undefined || user.removed_at !== null) return undefined;
  const fields = missingIn(user, identity);
  if (fields.length === 0) return user;
  // Otherwise a bot that takes an address on trust would hand the account of its owner to whoever typed it.
  if (user.origin !== 'service' || user.role === 'admin') throw new DomainError('identity_conflict');
  await audit(tx, { ...source, at, action: 'user.update', target: `user:${user.id}`, details: { fields } });
  const patch = { email: identity.email ?? user.email, telegram_id: identity.telegramId ?? user.telegram_id };
  return updateUser(tx, user.id, patch);
}

/**
 * Which of the identifiers an account does not have yet.
 * @throws DomainError `identity_conflict` when it has another one in that place
 */
function missingIn(user: UserRow, { email, telegramId }: Identity): readonly string[] {
  const wanted = [
    { field: 'email', has: user.email, wants: email },
    { field: 'telegram_id', has: user.telegram_id, wants: telegramId },
  ].filter(({ has, wants }) => wants !== undefined && wants !== has);
  if (wanted.some(({ has }) => has !== null)) throw new DomainError('identity_conflict');
  return wanted.map(({ field }) => field);
}
