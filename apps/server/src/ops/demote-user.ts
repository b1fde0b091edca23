import { updateUser } from '@vpn-api/db';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { lockUserKeepingAnAdmin } from './keep-an-admin.ts';

/**
 * Takes the admin role away; nothing happens to a user without it.
 * @throws DomainError `user_not_found`, `last_admin`
 */
export async function demoteUser(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { userId, source }: { readonly userId: number; readonly source: AuditSource },
): Promise<void> {
  const at = clock.now();
  await store.transaction(async (tx) => {
    const user = await lockUserKeepingAnAdmin(tx, userId);
    if (user.role !== 'admin') return;
    await updateUser(tx, userId, { role: 'user' });
    await audit(tx, { ...source, at, action: 'user.demote', target: `user:${userId}` });
  });
}
