import { appendFileSync } from 'node:fs';
import { expect } from 'vitest';

/** What one scenario found. */
export interface ScenarioResult {
  /** As in the table of targets: `R2`. */
  readonly id: string;
  readonly title: string;
  readonly engine: string;
  readonly seed: number;
  /** What was counted, in the order to show it. */
  readonly counts: Readonly<Record<string, number>>;
  /** Every broken promise in words; none is what we promise. */
  readonly violations: readonly string[];
  readonly seconds: number;
}

/**
 * Prints what a scenario found, adds it to the file that `RELIABILITY_REPORT` names, and fails the test when a promise
 * was broken. The seed is in the message.
 */
export function report(result: ScenarioResult): void {
  const line = JSON.stringify(result);
  process.stdout.write(`reliability ${line}\n`);
  if (process.env.RELIABILITY_REPORT !== undefined) appendFileSync(process.env.RELIABILITY_REPORT, `${line}\n`);
  expect(result.violations, `seed ${result.seed}`).toEqual([]);
}

/** Seconds since `start`, a value of `performance.now()`. */
export function secondsSince(start: number): number {
  return Math.round((performance.now() - start) / 100) / 10;
}
