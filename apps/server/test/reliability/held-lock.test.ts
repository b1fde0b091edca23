import { setTimeout as sleep } from 'node:timers/promises';
import { insertUser } from '@vpn-api/db';
import { test } from 'vitest';
import { CrashWorld, deliverOnce } from './crash-world.ts';
import { Dice } from './dice.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';
import { sendAll } from './senders.ts';

/** Shorter than the Store's own patience. */
const HOLD_MS = 4_000;

test('another process that holds the lock of an SQLite file for four seconds makes callers wait, and fails none', {
  timeout: SCENARIO_TIMEOUT_MS,
}, async () => {
  const start = performance.now();
  await using world = await CrashWorld.open('sqlite');
  const orders = await world.placeOrders(Math.min(scale.payments, 200));
  await world.start();
  let failures = 0;
  const holding = world.store.transaction(async (tx) => {
    await insertUser(tx, { email: 'holder@example.com', created_at: new Date().toISOString() });
    await sleep(HOLD_MS);
  });
  const deliver = async (order: (typeof orders)[number]) => {
    const status = await deliverOnce(world.url, order);
    if (status !== 200) failures += 1;
    return status;
  };
  const { attempts } = await sendAll({ items: orders, dice: new Dice(seed), deliver, repeats: 0 });
  await holding;
  report({
    id: 'R5',
    title: 'SQLite locked by another process for 4 s',
    engine: 'sqlite',
    seed,
    counts: { payments: orders.length, deliveries: attempts, failures },
    violations: failures === 0 ? [] : [`${failures} deliveries were not answered with 200`],
    seconds: secondsSince(start),
  });
});
