import type { Tx, UserRow } from '@vpn-api/db';
import type { Services } from '../services.ts';
import { emitEvent } from './emit-event.ts';

/** Tells of an account that was made, in the transaction that makes it. */
export function tellUser(
  deps: Pick<Services, 'clock' | 'outbox'>,
  tx: Tx,
  { id, email, telegram_id }: UserRow,
): Promise<void> {
  return emitEvent(deps, tx, { type: 'user.created', userId: id, data: { user_id: id, email, telegram_id } });
}
