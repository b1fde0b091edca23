import { insertOutboxEvents, type PeerRow, type Tx } from '@vpn-api/db';
import type { PeerEventData } from '../domain/events.ts';
import type { Services } from '../services.ts';
import { emitEvent } from './emit-event.ts';
import type { Verdict } from './record-pass.ts';

/** Tells which peers a pass found switched on or off that were not so before, in the transaction that records it. */
export async function tellPeers(
  { clock, outbox }: Pick<Services, 'clock' | 'outbox'>,
  tx: Tx,
  verdicts: readonly Verdict[],
): Promise<void> {
  const created_at = clock.now();
  const events = verdicts.flatMap((verdict) => {
    const type = changeOf(verdict);
    if (type === undefined) return [];
    const { user_id } = verdict.peer;
    return [{ type, user_id, payload: JSON.stringify(eventData(verdict)), created_at }];
  });
  if (events.length === 0) return;
  await insertOutboxEvents(tx, events);
  tx.onCommit(() => outbox.wake());
}

/** What was never on is not told to be off, and a removed peer is nobody's any more. */
function changeOf({ peer, state, problem }: Verdict): 'peer.active' | 'peer.suspended' | undefined {
  if (problem !== undefined || peer.removed_at !== null) return undefined;
  if (state === 'present') return peer.applied_state === 'present' ? undefined : 'peer.active';
  return state === 'suspended' && peer.applied_state === 'present' ? 'peer.suspended' : undefined;
}

function eventData({ peer, state, reason }: Verdict): PeerEventData {
  const names = { peer_id: peer.id, user_id: peer.user_id, server_id: peer.server_id };
  return state === 'suspended' && reason !== null ? { ...names, reason } : names;
}

/** Tells the owner that the config his client has is none any more. */
export function tellNewConfig(
  deps: Pick<Services, 'clock' | 'outbox'>,
  tx: Tx,
  { id: peer_id, user_id, server_id, config_version }: PeerRow,
): Promise<void> {
  const data = { peer_id, user_id, server_id, config_version };
  return emitEvent(deps, tx, { type: 'peer.config_changed', userId: user_id, data });
}
