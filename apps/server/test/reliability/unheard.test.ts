import { findPayment, listPeriodsForUser } from '@vpn-api/db';
import { describe, test } from 'vitest';
import { runDoctor } from '../../src/ops/doctor.ts';
import { type App, engines, startApp } from '../harness.ts';
import { Dice } from './dice.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';
import { askedSources, type Sale } from './sources.ts';

const HOUR = 3_600;
/** How long questions go wrong. First readings come after five minutes and an hour, failed ones are repeated within an hour. */
const TROUBLED_HOURS = 3;
const STEP_SECONDS = 150;
const FAULTS = ['drop', 'page', 'busy', 'fail_before'] as const;

/** Customers have paid, no delivery ever arrives, and questions to the provider go wrong at random, until it is well again. */
describe.each(engines)('payments that nobody tells of, on %s', { timeout: SCENARIO_TIMEOUT_MS }, (engine) => {
  test.each(askedSources)(
    'are all found by asking, once their provider is well again: $name',
    async ({ name, open }) => {
      const start = performance.now();
      await using source = await open();
      await using app = await startApp({ engine, env: source.env });
      const dice = new Dice(seed);
      const sales: Sale[] = [];
      for (let n = 0; n < scale.unheardPayments; n += 1) sales.push(await source.sell(app));
      let faults = 0;
      for (let passed = 0; passed < TROUBLED_HOURS * HOUR; passed += STEP_SECONDS) {
        if (dice.chance(0.5)) {
          source.fail?.(dice.pick(FAULTS));
          faults += 1;
        }
        await letTimePass(app, STEP_SECONDS);
      }
      source.recover?.();
      await letTimePass(app, HOUR);
      const violations = await unsettled(app, sales);
      const findings = await runDoctor(app.store, { now: app.clock.now() });
      violations.push(...findings.map(({ invariant, message }) => `${invariant}: ${message}`));
      report({
        id: 'R26',
        title: `No webhook ever arrives: ${name}`,
        engine,
        seed,
        counts: { payments: sales.length, faults },
        violations,
        seconds: secondsSince(start),
      });
    },
  );
});

async function letTimePass(app: App, seconds: number): Promise<void> {
  for (const step of [seconds - 1, 1]) {
    app.clock.advance(step);
    await app.settled();
  }
}

async function unsettled({ store }: App, sales: readonly Sale[]): Promise<string[]> {
  const violations: string[] = [];
  for (const { userId, paymentId } of sales) {
    const status = (await findPayment(store, paymentId))?.status;
    const periods = await listPeriodsForUser(store, userId);
    if (status !== 'completed' || periods.length !== 1) {
      violations.push(`payment ${paymentId} is ${status} with ${periods.length} periods`);
    }
  }
  return violations;
}
