import { describe, it } from 'vitest';
import { type ConformanceSubject, checksFor } from '../../src/pay/conformance.ts';
import type { PaymentProvider } from '../../src/pay/provider.ts';

/** Runs every check that concerns the provider, each on a subject of its own. */
export function describeConformance(provider: PaymentProvider, makeSubject: () => Promise<ConformanceSubject>): void {
  describe(`${provider.name} as a payment provider`, () => {
    for (const check of checksFor(provider)) it(check.name, () => check.run(makeSubject));
  });
}
