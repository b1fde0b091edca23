import type { Engine } from '@vpn-api/db';
import { test } from 'vitest';
import { runDoctor } from '../../src/ops/doctor.ts';
import { publishEvents } from '../../src/ops/publish-events.ts';
import { Shop } from '../payment/shop.ts';
import { Dice } from './dice.ts';
import { dump, History } from './history.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';

test('the same histories on both databases are answered alike and leave equal rows', {
  timeout: SCENARIO_TIMEOUT_MS,
}, async () => {
  const start = performance.now();
  const [sqlite, postgres] = [await play('sqlite'), await play('postgres')];
  const violations = [...sqlite.findings, ...differences(sqlite.transcript, postgres.transcript, 'answers')];
  for (const [table, rows] of Object.entries(sqlite.tables)) {
    violations.push(...differences(rows, postgres.tables[table] ?? [], table));
  }
  report({
    id: 'R25',
    title: 'The same histories on both databases',
    engine: 'both',
    seed,
    counts: {
      histories: scale.histories,
      steps: scale.histories * scale.stepsPerHistory,
      rows: Object.values(sqlite.tables).flat().length,
    },
    violations,
    seconds: secondsSince(start),
  });
});

/** Events that wait for ever pile up: a new shop now and then keeps the time for what matters. */
const HISTORIES_PER_SHOP = 10;

async function play(engine: Engine) {
  const transcript: string[] = [];
  const tables: Record<string, string[]> = {};
  const findings: string[] = [];
  for (let first = 0; first < scale.histories; first += HISTORIES_PER_SHOP) {
    await using shop = await Shop.open(engine);
    await shop.hireAdmin('admin@example.com');
    for (let n = first; n < Math.min(first + HISTORIES_PER_SHOP, scale.histories); n += 1) {
      const history = new History(shop, new Dice(seed + n));
      await history.play(scale.stepsPerHistory);
      transcript.push(...history.transcript);
    }
    await publishEvents(shop.services);
    for (const finding of await runDoctor(shop.store, { now: shop.clock.now() }))
      findings.push(JSON.stringify(finding));
    for (const [table, rows] of Object.entries(await dump(shop))) tables[table] = [...(tables[table] ?? []), ...rows];
  }
  return { transcript, tables, findings };
}

/** The first few are enough to see why. */
function differences(a: readonly string[], b: readonly string[], what: string): string[] {
  const different = Array.from({ length: Math.max(a.length, b.length) }, (_, n) => n).filter((n) => a[n] !== b[n]);
  return different.slice(0, 3).map((n) => `${what} ${n}: ${a[n]} is ${b[n]}`);
}
