import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Engine,
  findPayment,
  listHostPeers,
  listPeersForUser,
  listPeriodsForUser,
  listServers,
  type ServerRow,
} from '@vpn-api/db';
import { openTestStore, type TestStore } from '@vpn-api/db/testing';
import { skipWithoutWireguard, startWireguardLab, type WireguardLab } from '@vpn-api/wg/testing';
import { describe, expect, test } from 'vitest';
import { engines, PROMOTE_SECRET } from '../harness.ts';
import { eventually } from './eventually.ts';
import { type HeldWg, makeHeldWg } from './held-wg.ts';
import { counterAt, type Exit, ServerProcess, secrets, signUp, temporaryFolder } from './server-process.ts';
import { addDevice, type Counter, deliver, ok, openPayment, type Peer, pay, sellTariff, type Tariff } from './shop.ts';

/** How long a process that died may keep others from a host. */
const LEASE_MS = 10_000;
/**
 * From the restarted server's banner until its host is right. On SQLite, which one process owns, at once. On PostgreSQL
 * the lease of the dead process has to run out first: it might be another machine's, alive.
 */
const CONVERGES_MS: Readonly<Record<Engine, number>> = { sqlite: 2_000, postgres: LEASE_MS + 2_000 };
/** A restart takes seconds on a busy machine, and on PostgreSQL some wait for a lease. */
const TIMEOUT_MS = 150_000;

// The two engines side by side: one mostly waits, for leases of dead processes to end.
const onEachEngine = test.concurrent.each(engines);

describe.skipIf(skipWithoutWireguard())('a server that is asked to stop', { timeout: TIMEOUT_MS }, () => {
  onEachEngine(
    'gives its lease back in the middle of a change, ends with 0, and the next one works at once on %s',
    async (engine) => {
      await using world = await startWorld(engine);
      const { counter, wg } = world;
      const { token } = await signUp(counter, 'customer@example.com');
      await pay(counter, token, world.tariff);
      await wg.hold('before');
      const peer = await addDevice(counter, token);
      await wg.held();
      expect((await world.server()).lease_until).not.toBeNull();
      expect(await world.end('SIGTERM')).toEqual({ code: 0, signal: null });
      expect((await world.server()).lease_until).toBeNull();
      await wg.release('abandon');

      await world.start();
      await eventually('the next server works on the host', 2_000, () => world.isOnHost(peer));
      expect(await world.end('SIGINT')).toEqual({ code: 0, signal: null });
      expect((await world.server()).lease_until).toBeNull();
      expect(await world.isOnHost(peer)).toBe(true);
    },
  );
});

describe.skipIf(skipWithoutWireguard())('a server that is killed', { timeout: TIMEOUT_MS }, () => {
  describe('right after any of its answers', () => {
    onEachEngine('has lost nothing when it starts again on %s', async (engine) => {
      await using world = await startWorld(engine);
      const { counter, tariff } = world;
      const { id, token } = await signUp(counter, 'customer@example.com');
      const payment = await openPayment(counter, token, tariff);
      await world.killAndRestart();
      expect(await deliver(counter, payment)).toBe('settled');
      await world.killAndRestart();
      expect(await deliver(counter, payment)).toBe('duplicate');
      expect(await listPeriodsForUser(world.store, id)).toHaveLength(1);

      const peer = await addDevice(counter, token);
      await world.killAndRestart();
      await world.converges('the new peer is on', () => world.isOnHost(peer));

      const act = (verb: string) => ok(counter.rest('POST', `/vpn_peers/${peer.id}/${verb}`, { token, body: {} }));
      await act('deactivate');
      await world.killAndRestart();
      await world.converges('the deactivated peer is off', async () => !(await world.isOnHost(peer)));
      await act('activate');
      const rotated = (await act('rotate')) as unknown as Peer;
      await world.killAndRestart();
      await world.converges('the new key is on and the old one off', async () => {
        return (await world.isOnHost(rotated)) && !(await world.isOnHost(peer));
      });

      await ok(counter.rest('DELETE', `/vpn_peers/${peer.id}`, { token }));
      await world.killAndRestart();
      await world.converges('the removed peer is off and its tombstones are confirmed', async () => {
        const rows = await listHostPeers(world.store, (await world.server()).id);
        return !(await world.isOnHost(rotated)) && rows.length === 2 && rows.every((row) => row.gone_at !== null);
      });
      expect(await listPeersForUser(world.store, id)).toEqual([]);
    });
  });

  describe('at any moment of a delivery', () => {
    onEachEngine('has granted one period for each payment once it is delivered again on %s', async (engine) => {
      await using world = await startWorld(engine);
      const { counter, tariff } = world;
      const customers = await Promise.all([1, 2, 3, 4].map((n) => signUp(counter, `customer${n}@example.com`)));
      const moments = [0, 8, 25];
      for (const [round, ms] of moments.entries()) {
        const payments = await Promise.all(customers.map(({ token }) => openPayment(counter, token, tariff)));
        const cutOff = Promise.allSettled(payments.map((payment) => deliver(counter, payment)));
        await sleep(ms);
        await world.killAndRestart();
        await cutOff;
        const results = await Promise.all(payments.map((payment) => deliver(counter, payment)));
        for (const result of results) expect(['settled', 'duplicate']).toContain(result);
        for (const payment of payments) expect((await findPayment(world.store, payment.id))?.status).toBe('completed');
        for (const { id } of customers) expect(await listPeriodsForUser(world.store, id)).toHaveLength(round + 1);
      }
    });
  });

  describe('before or after the host was changed, and before that was recorded', () => {
    onEachEngine('brings the host to what is paid on %s', async (engine) => {
      await using world = await startWorld(engine);
      const { counter, wg } = world;
      const { id, token } = await signUp(counter, 'customer@example.com');
      await pay(counter, token, world.tariff);

      await wg.hold('before');
      const peer = await addDevice(counter, token);
      await wg.held();
      expect(Date.parse((await world.server()).lease_until ?? '') - Date.now()).toBeLessThanOrEqual(LEASE_MS);
      await world.killAndRestart(() => wg.release('abandon'));
      await world.converges('the peer that never reached the host is on', () => world.isOnHost(peer));
      await world.converges('and recorded', async () => (await world.onlyPeer(id)).applied_state === 'present');

      await wg.hold('after');
      await ok(counter.rest('POST', `/vpn_peers/${peer.id}/deactivate`, { token, body: {} }));
      await wg.held();
      expect(await world.isOnHost(peer)).toBe(false);
      expect((await world.onlyPeer(id)).applied_state).toBe('present');
      await world.killAndRestart(() => wg.release());
      await world.converges('what was done unseen is recorded', async () => {
        return (await world.onlyPeer(id)).applied_state === 'suspended';
      });
    });
  });
});

/** A host, a database, and a server between them that comes and goes. */
interface World extends AsyncDisposable {
  readonly lab: WireguardLab;
  readonly wg: HeldWg;
  /** The same database as the server's, to look at. */
  readonly store: TestStore;
  readonly counter: Counter;
  readonly tariff: Tariff;
  start(): Promise<void>;
  end(signal: NodeJS.Signals): Promise<Exit>;
  /** `between` is done while no server runs. */
  killAndRestart(between?: () => Promise<void>): Promise<void>;
  converges(what: string, check: () => Promise<boolean>): Promise<void>;
  isOnHost(peer: Peer): Promise<boolean>;
  server(): Promise<ServerRow>;
  onlyPeer(userId: number): Promise<Awaited<ReturnType<typeof listPeersForUser>>[number]>;
}

async function startWorld(engine: Engine): Promise<World> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const lab = cleanup.use(await startWireguardLab());
  const store = cleanup.use(await openTestStore(engine, { file: true, poolSize: 2 }));
  const wg = await makeHeldWg(folder.path);
  const env = {
    ...secrets,
    NODE_ENV: 'test',
    PORT: '0',
    DATA_DIR: folder.path,
    DATABASE_URL: store.url,
    DATABASE_POOL_SIZE: '4',
    BCRYPT_COST: '10',
    RATE_LIMITS: 'auth=0,default=0',
    WG_APPLY_ENABLED: '1',
    WG_INTERFACE: lab.interface,
    WG_ENDPOINT: lab.endpoint,
    WG_POOL_V4: lab.poolV4,
  };
  let url = '';
  let process: ServerProcess | undefined;
  const start = async () => {
    process = new ServerProcess({ env, cwd: folder.path, wrapper: wg.wrapper });
    url = await process.ready();
  };
  const end = async (signal: NodeJS.Signals) => {
    if (process === undefined) throw new Error('no server runs');
    return process.end(signal);
  };
  cleanup.defer(() => process?.[Symbol.asyncDispose]());
  await start();
  const counter = counterAt(() => url);
  const tariff = await sellTariff(counter, await adminToken(counter), 2);
  const stack = cleanup.move();
  return {
    lab,
    wg,
    store,
    counter,
    tariff,
    start,
    end,
    killAndRestart: async (between) => {
      expect(await end('SIGKILL')).toEqual({ code: null, signal: 'SIGKILL' });
      await between?.();
      await start();
    },
    converges: async (what, check) => void (await eventually(what, CONVERGES_MS[engine], check)),
    isOnHost: async (peer) => (await lab.dump()).some(({ publicKey }) => publicKey === peer.wg_public_key),
    server: async () => {
      const [row] = await listServers(store);
      if (row === undefined) throw new Error('there is no server');
      return row;
    },
    onlyPeer: async (userId) => {
      const [peer, ...others] = await listPeersForUser(store, userId);
      if (peer === undefined || others.length > 0) throw new Error('there is not exactly one peer');
      return peer;
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

async function adminToken(counter: Counter): Promise<string> {
  const { id, token } = await signUp(counter, 'admin@example.com');
  await ok(counter.rest('POST', `/auth/admin/promote?user_id=${id}&secret=${PROMOTE_SECRET}`));
  return token;
}
