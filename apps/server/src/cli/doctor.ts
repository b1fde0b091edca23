import { parseArgs } from 'node:util';
import { openStore } from '@vpn-api/db';
import { systemClock } from '../jobs/clock.ts';
import { type Finding, runDoctor } from '../ops/doctor.ts';

/** `doctor [--json]`: looks for broken invariants and prints the rows. Changes nothing. Answers 1 when it found any. */
export async function runDoctorCommand(url: string, args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: { json: { type: 'boolean', default: false } } });
  await using store = await openStore(url);
  await store.checkSchema();
  const findings = await runDoctor(store, { now: systemClock.now() });
  process.stdout.write(values.json ? `${JSON.stringify(findings)}\n` : describe(findings));
  return findings.length === 0 ? 0 : 1;
}

function describe(findings: readonly Finding[]): string {
  if (findings.length === 0) return 'All invariants hold (I1 to I11).\n';
  return findings.map(({ invariant, message, row }) => `${invariant}  ${message}  ${JSON.stringify(row)}\n`).join('');
}
