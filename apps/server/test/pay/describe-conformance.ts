import { afterAll, describe, it } from 'vitest';
import { type ConformanceCheck, type ConformanceSubject, checksFor } from '../../src/pay/conformance.ts';
import type { PaymentProvider } from '../../src/pay/provider.ts';
import { report, secondsSince } from '../reliability/results.ts';
import { seed } from '../reliability/scale.ts';

/** Runs every check that concerns the provider, each on a subject of its own. */
export function describeConformance(provider: PaymentProvider, makeSubject: () => Promise<ConformanceSubject>): void {
  describe(`${provider.name} as a payment provider`, () => {
    const start = performance.now();
    const broken: string[] = [];
    for (const check of checksFor(provider)) {
      it(check.name, () => check.run(makeSubject).catch((error: unknown) => notePromise(check, broken, error)));
    }
    afterAll(async () => {
      await using subject = await makeSubject();
      report({
        id: 'R17',
        title: `Forged deliveries: ${provider.name}`,
        engine: 'none',
        seed,
        counts: countForgeries(subject),
        violations: broken,
        seconds: secondsSince(start),
      });
    });
  });
}

function notePromise({ name, needs }: ConformanceCheck, broken: string[], error: unknown): never {
  if (needs.includes('verify')) broken.push(name);
  throw error;
}

function countForgeries({ provider, vectors, negatives, signedHeaders }: ConformanceSubject) {
  const signed = vectors.map(({ delivery }) => [
    ...(provider.authenticatesBy === 'signature' ? [delivery.raw] : []),
    ...(provider.authenticatesBy === 'address' ? [] : signedHeaders.map((header) => delivery.headers[header] ?? '')),
  ]);
  const flips = signed.flat().reduce((sum, text) => sum + Buffer.byteLength(text) * 8, 0);
  return { vectors: vectors.length, negatives: negatives.length, 'flipped bits': flips };
}
