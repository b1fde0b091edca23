import { countPeers, listPeers, type Page, type PeerFilter } from '@vpn-api/db';
import type { PeerState } from '../domain/peer.ts';
import type { Services } from '../services.ts';
import { type JudgedPeer, judgePeers } from './peer-access.ts';

type Deps = Pick<Services, 'store' | 'clock'>;

export interface PeerQuery {
  readonly userId: number | undefined;
  readonly serverId: number | undefined;
  readonly state: PeerState | undefined;
  readonly page: Page;
  /** Counting costs another query, or all of them where a state is asked for. */
  readonly withTotal: boolean;
}

export interface PeerList {
  readonly peers: readonly JudgedPeer[];
  readonly total: number | undefined;
}

/**
 * Peers as their state is now, in order of id. Removed ones are listed only by `removing`, until their host is without them.
 */
export async function listJudgedPeers(deps: Deps, query: PeerQuery): Promise<PeerList> {
  const { userId, serverId, state, page, withTotal } = query;
  if (state !== undefined && state !== 'removing') return listByState(deps, query);
  const filter: PeerFilter = { userId, serverId, which: state === 'removing' ? 'removing' : 'live' };
  const rows = await listPeers(deps.store, filter, page);
  return {
    peers: await judgePeers(deps.store, rows, deps.clock.now()),
    total: withTotal ? await countPeers(deps.store, filter) : undefined,
  };
}

const BATCH = 500;

/** A state follows from the time and from other rows too, so it is no column: the live peers are judged in batches. */
async function listByState({ store, clock }: Deps, query: PeerQuery): Promise<PeerList> {
  const { userId, serverId, state, page, withTotal } = query;
  const { skip = 0, limit = 100 } = page;
  const found: JudgedPeer[] = [];
  let afterId = withTotal ? 0 : (page.afterId ?? 0);
  while (withTotal || found.length < skip + limit) {
    const rows = await listPeers(store, { userId, serverId }, { afterId, limit: BATCH });
    found.push(...(await judgePeers(store, rows, clock.now())).filter((judged) => judged.state === state));
    const last = rows.at(-1);
    if (last === undefined || rows.length < BATCH) break;
    afterId = last.id;
  }
  const behind = found.filter(({ peer }) => peer.id > (page.afterId ?? 0));
  return { peers: behind.slice(skip, skip + limit), total: withTotal ? found.length : undefined };
}
