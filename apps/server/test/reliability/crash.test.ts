import { setTimeout as sleep } from 'node:timers/promises';
import { findPayment, listPeriodsForUser, releaseAllLeases } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { sql } from 'kysely';
import { describe, test } from 'vitest';
import { runDoctor } from '../../src/ops/doctor.ts';
import { eventually } from '../e2e/eventually.ts';
import { CrashWorld, deliverOnce, eventId, type Order } from './crash-world.ts';
import { Dice } from './dice.ts';
import { crashPoints, faultAt } from './faults.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';
import { sendAll } from './senders.ts';

/** A lease of a killed process runs out after 10 s on PostgreSQL. */
const CONVERGES_MS = 60_000;

describe.each(engines)('a server that is killed all the time, on %s', { timeout: SCENARIO_TIMEOUT_MS }, (engine) => {
  test('loses no payment, counts none twice, and its host ends as what is paid', async () => {
    const start = performance.now();
    await using world = await CrashWorld.open(engine);
    const dice = new Dice(seed);
    const orders = await world.placeOrders(scale.payments);
    const acknowledged = new Set<Order>();
    const killer = new Killer(world, dice);
    const sending = sendAll({
      items: orders,
      dice: new Dice(seed + 1),
      deliver: (order) => deliverOnce(world.url, order),
      onAcknowledged: (order) => acknowledged.add(order),
      repeats: 2,
    });
    await killer.killAtRandom(scale.kills);
    await killer.killAtPoints(scale.killsPerPoint);
    await world.start();
    const { attempts, wrongStatuses } = await sending;
    for (const order of world.orders) if ((await deliverOnce(world.url, order)) === 200) acknowledged.add(order);
    const violations = await brokenPromises(world, acknowledged);
    for (const [status, times] of wrongStatuses) violations.push(`${times} answers with status ${status}`);
    await world.end('SIGTERM');
    violations.push(...(await brokenFiles(world)));
    report({
      id: 'R2',
      title: 'Server killed while payments are delivered',
      engine,
      seed,
      counts: {
        payments: world.orders.length,
        deliveries: attempts,
        kills: killer.kills,
        'named points': crashPoints.length,
        acknowledged: acknowledged.size,
      },
      violations,
      seconds: secondsSince(start),
    });
  });
});

/** Kills and restarts, until it has done its share. */
class Killer {
  kills = 0;
  readonly #world: CrashWorld;
  readonly #dice: Dice;

  constructor(world: CrashWorld, dice: Dice) {
    this.#world = world;
    this.#dice = dice;
  }

  /** A fifth of the kills hit a server that is still starting. */
  async killAtRandom(times: number): Promise<void> {
    for (let kill = 0; kill < times; kill += 1) {
      if (this.#dice.chance(0.2)) {
        this.#world.launch();
        await sleep(this.#dice.between(50, 900));
      } else {
        await this.#world.start();
        await sleep(this.#dice.between(20, 200));
      }
      await this.#world.end('SIGKILL');
      this.kills += 1;
    }
  }

  /** New orders until the server dies make sure that the point is reached, also when all else is settled already. */
  async killAtPoints(times: number): Promise<void> {
    for (const point of crashPoints) {
      for (let n = 1; n <= times; n += 1) {
        // On PostgreSQL the dead process still holds its host; that it is waited for is shown elsewhere.
        await releaseAllLeases(this.#world.store);
        await this.#world.start(faultAt(point, n));
        const died = this.#world.process.exit;
        let isAlive = true;
        void died.then(() => {
          isAlive = false;
        });
        while (isAlive) {
          const [order] = await this.#world.placeOrders(1);
          if (order !== undefined) await deliverOnce(this.#world.url, order);
          await Promise.race([died, sleep(100)]);
        }
        this.kills += 1;
      }
    }
  }
}

/** Each payment settled with one period, each device on the host as it was sold, and nothing else there. */
async function brokenPromises(world: CrashWorld, acknowledged: ReadonlySet<Order>): Promise<string[]> {
  const { store, remote, orders } = world;
  const violations: string[] = [];
  for (const { payment, user } of orders) {
    const status = (await findPayment(store, payment.id))?.status;
    const periods = await listPeriodsForUser(store, user.id);
    if (status !== 'completed') violations.push(`payment ${payment.id} is ${status}: lost`);
    if (periods.length !== 1) violations.push(`payment ${payment.id} has ${periods.length} periods`);
  }
  const wanted = new Map(orders.map(({ peer }) => [peer.public_key, peer.wg_ip]));
  const isConverged = () =>
    remote.host.peers().length === wanted.size &&
    remote.host.peers().every((peer) => peer.allowedIps.join() === wanted.get(peer.publicKey));
  await eventually('the host has what is paid', CONVERGES_MS, isConverged).catch((error: Error) => {
    violations.push(`${error.message}: it has ${remote.host.peers().length} of ${wanted.size} peers`);
  });
  const acked = [...acknowledged].map(({ payment }) => ({ provider: 'standard', dedupeKey: eventId(payment) }));
  const observed = new Map([[(await world.host()).id, remote.host.peers()]]);
  const findings = await runDoctor(store, { now: new Date().toISOString(), acked, observed });
  return [
    ...violations,
    ...findings.map(({ invariant, message, row }) => `${invariant} ${message} ${JSON.stringify(row)}`),
  ];
}

/** What SQLite itself thinks of the file that so many processes died on. */
async function brokenFiles({ store }: CrashWorld): Promise<string[]> {
  if (store.engine !== 'sqlite') return [];
  const { rows } = await sql<{ integrity_check: string }>`pragma integrity_check`.execute(store.kysely);
  return rows.flatMap(({ integrity_check: answer }) => (answer === 'ok' ? [] : [answer]));
}
