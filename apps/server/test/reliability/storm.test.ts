import { listPeriodsForUser } from '@vpn-api/db';
import { describe, test } from 'vitest';
import { type App, engines, startApp } from '../harness.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';
import { type Source, sources } from './sources.ts';

/** One customer's one payment, told a thousand times at once. */
describe.each(engines)('a storm of equal deliveries on %s', { timeout: SCENARIO_TIMEOUT_MS }, (engine) => {
  test.each(sources)('grants one period and answers every one with 2xx: $name', async ({ name, open }) => {
    const start = performance.now();
    await using source = await open();
    await using app = await startApp({ engine, env: source.env });
    const violations: string[] = [];
    for (const isSameEvent of [true, false]) {
      violations.push(...(await storm(app, source, isSameEvent)));
    }
    report({
      id: 'R1',
      title: `Equal deliveries at once: ${name}`,
      engine,
      seed,
      counts: { deliveries: 2 * scale.identicalDeliveries },
      violations,
      seconds: secondsSince(start),
    });
  });
});

/** The same event over and over, or the same payment under ever new event ids. */
async function storm(app: App, source: Source, isSameEvent: boolean): Promise<string[]> {
  const sale = await source.sell(app);
  const what = isSameEvent ? 'the same event' : 'the same payment under new event ids';
  const violations: string[] = [];
  const statuses = await Promise.all(
    Array.from({ length: scale.identicalDeliveries }, (_, n) => sale.deliver(isSameEvent ? 0 : n)),
  );
  const refused = statuses.filter((status) => status < 200 || status > 299);
  if (refused.length > 0) violations.push(`${what}: ${refused.length} not answered with 2xx, but ${refused[0]}`);
  await app.settled();
  const periods = await listPeriodsForUser(app.store, sale.userId);
  if (periods.length !== 1) violations.push(`${what}: ${periods.length} periods`);
  return violations;
}
