import { type Accounts, createTariff, ensureUsers, inParallel } from './api.ts';

export interface PeerTimes {
  readonly peers: number;
  /** Until the last of twenty callers has its answer. */
  readonly createdSeconds: number;
  /** Until the reconciler has applied the last one. */
  readonly appliedSeconds: number;
}

const USERS = 20;

/** Creates peers for users with a subscription and waits until none is pending any more. */
export async function createPeers({ admin }: Accounts, peers: number): Promise<PeerTimes> {
  const owners = await subscribedUsers({ admin }, Math.ceil(peers / USERS));
  const devices = Array.from({ length: peers }, (_, i) => ({ user_id: owners[i % USERS], device_name: `device ${i}` }));
  const startedAt = performance.now();
  const seconds = () => (performance.now() - startedAt) / 1000;
  await inParallel(devices, (device) => admin.post('/vpn_peers', device));
  const createdSeconds = seconds();
  while ((await admin.count('/vpn_peers?state=active')) < peers) {
    if (seconds() > 60) throw new Error('Not all peers were applied within a minute');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return { peers, createdSeconds, appliedSeconds: seconds() };
}

async function subscribedUsers({ admin }: Pick<Accounts, 'admin'>, deviceLimit: number): Promise<readonly number[]> {
  const tariffId = await createTariff(admin, 'Many devices', deviceLimit);
  const users = await ensureUsers(admin, USERS, 'owner');
  await inParallel(users, (user_id) =>
    admin.post('/subscriptions/grant', { user_id, tariff_id: tariffId, reason: 'bench' }),
  );
  return users;
}
