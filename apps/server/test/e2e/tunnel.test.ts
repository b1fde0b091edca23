import { type Engine, listHostPeers, listPeersForUser, listServers, updateServer } from '@vpn-api/db';
import type { PublicKey } from '@vpn-api/wg';
import { skipWithoutWireguard, startWireguardLab, type WireguardLab } from '@vpn-api/wg/testing';
import { describe, expect, test } from 'vitest';
import { type App, engines, PASSWORD, type Person, startApp } from '../harness.ts';
import { eventually } from './eventually.ts';
import { ShiftedClock } from './shifted-clock.ts';
import { addDevice, deliver, fetchConfig, ok, openPayment, type Peer, pay, sellTariff, type Tariff } from './shop.ts';

/** Of the promise "within 2 s", measured from the answer or from the moment that time ran out. */
const PROMISED_MS = 2_000;
/** A client that was cut off asks for a new session by itself: 15 s after its last answer, then every 5 s. */
const HANDSHAKE_RETRY_MS = 25_000;

describe.skipIf(skipWithoutWireguard())('a real tunnel', () => {
  // Both at once: each waits a quarter of a minute for its client.
  test.concurrent.each(engines)(
    'expiry cuts the tunnel within 2 s, and the next payment restores it within 2 s, on %s',
    async (engine) => {
      await using host = await startHost(engine);
      const { app, lab, clock } = host;
      const customer = await host.connectedCustomer();
      const { ended_at: expiresAt } = await host.subscription(customer);
      clock.shiftBefore(expiresAt, 3);
      expect(await lab.ping(1_000)).toBe(true);
      expect(clock.msSince(expiresAt)).toBeLessThan(0);

      await eventually('expiry takes the peer off', 10_000, async () => !(await host.isOnHost(customer.peer)));
      expect(clock.msSince(expiresAt)).toBeGreaterThan(0);
      expect(clock.msSince(expiresAt)).toBeLessThan(PROMISED_MS);
      expect(await lab.ping(1_000)).toBe(false);
      const { token } = await host.logIn(customer);
      const refused = await app.rest('GET', '/vpn_peers/self/config', { token });
      expect([refused.status, refused.body.code]).toEqual([403, 'no_active_subscription']);

      await pay(app, token, host.tariff);
      await eventually('the payment puts the peer back', PROMISED_MS, () => host.isOnHost(customer.peer));
      expect(await lab.ping(HANDSHAKE_RETRY_MS)).toBe(true);
      await host.expectForeignUntouched();
    },
  );

  describe.each(engines)('on %s', (engine) => {
    test('a paid webhook reaches the first ping through the issued config in under 3 s', async () => {
      await using host = await startHost(engine);
      const { app, tariff } = host;
      const customer = await app.register();
      const unpaid = await app.rest('POST', '/vpn_peers/self', { token: customer.token, body: {} });
      expect([unpaid.status, unpaid.body.code]).toEqual([403, 'no_active_subscription']);
      const payment = await openPayment(app, customer.token, tariff);

      const start = performance.now();
      expect(await deliver(app, payment)).toBe('settled');
      await host.connectNewDevice(customer);
      expect(performance.now() - start).toBeLessThan(3_000);
      await host.expectForeignUntouched();
    });

    test('an admin who revokes a period cuts the tunnel within 2 s', async () => {
      await using host = await startHost(engine);
      const { app, lab } = host;
      const customer = await host.connectedCustomer();
      const { periods } = await host.subscription(customer);
      const body = { period_id: periods[0]?.id, reason: 'the bank took the money back' };
      await ok(app.rest('POST', '/subscriptions/revoke', { token: (await app.admin()).token, body }));
      await eventually('the revoked peer is off', PROMISED_MS, async () => !(await host.isOnHost(customer.peer)));
      expect(await lab.ping(1_000)).toBe(false);
    });

    test('deactivate, activate, rotate and remove are seen on the interface', async () => {
      await using host = await startHost(engine);
      const { app, lab } = host;
      const { token, peer } = await host.connectedCustomer();
      const act = (verb: string) => ok(app.rest('POST', `/vpn_peers/${peer.id}/${verb}`, { token, body: {} }));

      await act('deactivate');
      await eventually('the deactivated peer is off', PROMISED_MS, async () => !(await host.isOnHost(peer)));
      expect(await lab.ping(500)).toBe(false);
      await act('activate');
      await eventually('the activated peer is on', PROMISED_MS, () => host.isOnHost(peer));
      await lab.connectClient(await fetchConfig(app, token));
      expect(await lab.ping(5_000)).toBe(true);

      const rotated = (await act('rotate')) as unknown as Peer;
      expect(rotated.wg_public_key).not.toBe(peer.wg_public_key);
      await eventually('the new key is on and the old one gone', PROMISED_MS, async () => {
        return (await host.isOnHost(rotated)) && !(await host.isOnHost(peer));
      });
      expect(await lab.ping(500)).toBe(false);
      await lab.connectClient(await fetchConfig(app, token));
      expect(await lab.ping(5_000)).toBe(true);

      await ok(app.rest('DELETE', `/vpn_peers/${peer.id}`, { token }));
      await eventually('the removed peer is off', PROMISED_MS, async () => !(await host.isOnHost(rotated)));
      expect(await lab.ping(500)).toBe(false);
      await eventually('its tombstones are confirmed', PROMISED_MS, async () => {
        const rows = await listHostPeers(app.store, await host.serverId());
        return rows.length === 2 && rows.every((row) => row.gone_at !== null);
      });
      await host.expectForeignUntouched();
    });

    test('a peer removed by hand comes back at the next compare, and a foreign one is left alone', async () => {
      await using host = await startHost(engine);
      const { app, lab, clock } = host;
      const { peer } = await host.connectedCustomer();
      await app.settled();
      await lab.removePeer(peer.wg_public_key as PublicKey);
      expect(await host.isOnHost(peer)).toBe(false);
      clock.shift(app.services.config.reconcileIntervalSeconds);
      await eventually('the compare puts it back', PROMISED_MS, () => host.isOnHost(peer));
      await host.expectForeignUntouched();
    });

    test('a host in observe mode is planned for and not changed', async () => {
      await using host = await startHost(engine);
      const { app, lab } = host;
      const customer = await host.connectedCustomer();
      const serverId = await host.serverId();
      await app.settled();
      await updateServer(app.store, serverId, { mode: 'observe' });
      const before = (await lab.dump()).map(({ publicKey }) => publicKey).sort();

      await ok(app.rest('POST', `/vpn_peers/${customer.peer.id}/deactivate`, { token: customer.token, body: {} }));
      await eventually('the change is planned', PROMISED_MS, async () => {
        return (await listServers(app.store)).find(({ id }) => id === serverId)?.pending_changes === 1;
      });
      await app.settled();
      expect((await lab.dump()).map(({ publicKey }) => publicKey).sort()).toEqual(before);
      expect(await lab.ping(1_000)).toBe(true);
      const [row] = await listPeersForUser(app.store, customer.id);
      expect(row?.applied_state).toBe('present');

      await updateServer(app.store, serverId, { mode: 'apply' });
      app.server.reconciler.wake();
      await eventually('the plan is carried out', PROMISED_MS, async () => !(await host.isOnHost(customer.peer)));
      await host.expectForeignUntouched();
    });
  });
});

interface Customer extends Person {
  readonly peer: Peer;
}

interface Subscription {
  readonly ended_at: string;
  readonly periods: readonly { readonly id: number }[];
}

/** A server that drives a real interface, with a tariff for sale and a peer on the host that nobody here ordered. */
interface Host extends AsyncDisposable {
  readonly app: App;
  readonly lab: WireguardLab;
  readonly clock: ShiftedClock;
  readonly tariff: Tariff;
  /** Registered, paid, with a device whose issued config carries packets. */
  connectedCustomer(): Promise<Customer>;
  connectNewDevice(person: Person): Promise<Peer>;
  subscription(person: Person): Promise<Subscription>;
  /** A new access token, for after a shift of the clock. */
  logIn(person: Person): Promise<{ token: string }>;
  isOnHost(peer: Peer): Promise<boolean>;
  serverId(): Promise<number>;
  expectForeignUntouched(): Promise<void>;
}

const FOREIGN_ADDRESS = '10.99.0.2/32';

async function startHost(engine: Engine): Promise<Host> {
  await using cleanup = new AsyncDisposableStack();
  const lab = cleanup.use(await startWireguardLab());
  const foreignKey = await lab.addForeignPeer(FOREIGN_ADDRESS);
  const clock = new ShiftedClock();
  const env = {
    WG_APPLY_ENABLED: '1',
    WG_INTERFACE: lab.interface,
    WG_ENDPOINT: lab.endpoint,
    WG_POOL_V4: lab.poolV4,
  };
  const app = cleanup.use(await startApp({ engine, clock, env }));
  const tariff = await sellTariff(app, (await app.admin()).token);
  const isOnHost: Host['isOnHost'] = async (peer) =>
    (await lab.dump()).some(({ publicKey }) => publicKey === peer.wg_public_key);
  const connectNewDevice: Host['connectNewDevice'] = async ({ token }) => {
    const peer = await addDevice(app, token);
    // As a client does: a handshake that came before the peer would be tried again only after 5 s.
    await eventually('the device is active', PROMISED_MS, async () => {
      const status = await ok(app.rest('GET', `/vpn_peers/${peer.id}/status`, { token }));
      return status.state === 'active' && status.applied_at !== null;
    });
    await lab.connectClient(await fetchConfig(app, token));
    expect(await lab.ping(5_000)).toBe(true);
    return peer;
  };
  const stack = cleanup.move();
  return {
    app,
    lab,
    clock,
    tariff,
    isOnHost,
    connectedCustomer: async () => {
      const person = await app.register();
      await pay(app, person.token, tariff);
      return { ...person, peer: await connectNewDevice(person) };
    },
    connectNewDevice,
    subscription: ({ token }) => ok(app.rest<Subscription>('GET', '/auth/me/subscription', { token })),
    logIn: async ({ email }) => {
      const body = { email, password: PASSWORD };
      const { access_token } = await ok(app.rest<{ access_token: string }>('POST', '/auth/login', { body }));
      return { token: access_token };
    },
    serverId: async () => (await listServers(app.store))[0]?.id ?? 0,
    expectForeignUntouched: async () => {
      const foreign = (await lab.dump()).find(({ publicKey }) => publicKey === foreignKey);
      expect(foreign?.allowedIps).toEqual([FOREIGN_ADDRESS]);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
