import { listServerIdsOfUser, type Tx } from '@vpn-api/db';
import type { Services } from '../services.ts';

/** Once this is committed, the hosts that a user's peers are on are compared, and no others. */
export async function wakeHostsOf({ reconciler }: Pick<Services, 'reconciler'>, tx: Tx, userId: number): Promise<void> {
  const serverIds = await listServerIdsOfUser(tx, userId);
  tx.onCommit(() => reconciler.wake(serverIds));
}
