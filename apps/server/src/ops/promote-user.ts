import { lockUser, setSettingOnce, type Tx, updateUser } from '@vpn-api/db';
import type { Actor } from '../api/actor.ts';
import { equalsConstantTime } from '../crypto/random.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'config'>;

interface PromoteUser {
  readonly caller: Actor;
  readonly userId: number;
  readonly secret: string | undefined;
  readonly source: AuditSource;
}

/** Set when the secret was used. It stays whatever becomes of that admin: the door opens once in the life of a database. */
const FIRST_PROMOTION = 'first_promotion';

/**
 * Makes a user an admin: on the word of an admin, or once with the secret of the configuration.
 * @throws DomainError `promotion_refused`, `user_not_found`, `user_not_active`, `not_allowed` for services
 */
export async function promoteUser(deps: Deps, { caller, userId, secret, source }: PromoteUser): Promise<void> {
  if (caller.kind === 'service') throw new DomainError('not_allowed');
  const bySecret = caller.kind !== 'admin';
  if (bySecret && !isSecret(deps, secret)) throw new DomainError('promotion_refused');
  const at = deps.clock.now();
  await deps.store.transaction(async (tx) => {
    if (bySecret && !(await setSettingOnce(tx, FIRST_PROMOTION, at))) throw new DomainError('promotion_refused');
    await giveRole(tx, userId);
    const details = { by: bySecret ? 'secret' : 'admin' };
    await audit(tx, { ...source, at, action: 'user.promote', target: `user:${userId}`, details });
  });
}

/** Without a configured secret that way is closed. */
function isSecret({ config }: Deps, secret: string | undefined): boolean {
  const { promoteSecret } = config.secrets;
  return promoteSecret !== undefined && secret !== undefined && equalsConstantTime(secret, promoteSecret);
}

async function giveRole(tx: Tx, userId: number): Promise<void> {
  const user = await lockUser(tx, userId);
  if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
  if (user.status !== 'active') throw new DomainError('user_not_active');
  await updateUser(tx, userId, { role: 'admin' });
}
