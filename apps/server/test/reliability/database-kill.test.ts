import { setTimeout as sleep } from 'node:timers/promises';
import { findPayment, listPeriodsForUser } from '@vpn-api/db';
import { test } from 'vitest';
import { startServer } from '../../../../tooling/vitest/postgres-server.ts';
import { eventually } from '../e2e/eventually.ts';
import { CrashWorld, deliverOnce, type Order } from './crash-world.ts';
import { Dice } from './dice.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';
import { sendAll } from './senders.ts';

/** From the moment that PostgreSQL answers again until the server does. */
const RECOVERY_MS = 3_000;

test('a PostgreSQL killed under load costs nothing that was answered: 503 meanwhile, back within seconds, no restart', {
  timeout: SCENARIO_TIMEOUT_MS,
}, async () => {
  const start = performance.now();
  const database = await startServer({ isDurable: true });
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => database.stop());
  await using world = await CrashWorld.open('postgres', database.url);
  const dice = new Dice(seed);
  const orders = await world.placeOrders(scale.payments);
  await world.start();
  const acknowledged = new Set<Order>();
  const violations: string[] = [];
  let isOver = false;
  const sending = sendAll({
    items: orders,
    dice: new Dice(seed + 1),
    deliver: (order) => deliverOnce(world.url, order),
    onAcknowledged: (order) => acknowledged.add(order),
    repeats: 4,
  }).finally(() => {
    isOver = true;
  });
  let slowestMs = 0;
  for (let kill = 0; kill < scale.databaseKills; kill += 1) {
    await sleep(dice.between(50, 600));
    await database.kill();
    await sleep(dice.between(0, 400));
    await database.restart();
    const [probe] = orders;
    const recovered = async () => probe !== undefined && (await deliverOnce(world.url, probe, 1_000)) === 200;
    slowestMs = Math.max(slowestMs, await eventually('the server answers again', 30_000, recovered));
  }
  const { attempts, wrongStatuses } = await sending;
  if (!isOver) violations.push('the senders never came to an end');
  if (slowestMs > RECOVERY_MS) violations.push(`recovery took ${Math.round(slowestMs)} ms`);
  for (const [status, times] of wrongStatuses) violations.push(`${times} answers with status ${status}`);
  for (const { payment, user } of acknowledged) {
    const periods = await listPeriodsForUser(world.store, user.id);
    if ((await findPayment(world.store, payment.id))?.status !== 'completed') violations.push(`${payment.id} is lost`);
    if (periods.length !== 1) violations.push(`payment ${payment.id} has ${periods.length} periods`);
  }
  if (acknowledged.size !== orders.length) violations.push(`${acknowledged.size} of ${orders.length} acknowledged`);
  if (world.process.hasEnded) violations.push('the server ended by itself');
  report({
    id: 'R4',
    title: 'PostgreSQL killed and restarted under load',
    engine: 'postgres',
    seed,
    counts: {
      payments: orders.length,
      deliveries: attempts,
      kills: scale.databaseKills,
      'slowest recovery, ms': Math.round(slowestMs),
    },
    violations,
    seconds: secondsSince(start),
  });
});
