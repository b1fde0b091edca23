import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureInstall } from './ensure-install.mjs';
import { run } from './run.mjs';
import { countTests } from './test-counts.mjs';

const scratch = mkdtempSync(join(tmpdir(), 'vpn-api-test-'));
const reportPath = join(scratch, 'vitest.json');
// Half of the time a file waits: for a handshake, a lease, a database. By default one of two cores would stay idle.
const vitestArgs = [
  'run',
  '--maxWorkers=2',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${reportPath}`,
];
const startedAt = performance.now();

ensureInstall();
const turboArgs = [
  'run',
  'build',
  'typecheck',
  '//#typecheck:tooling',
  '--continue=dependencies-successful',
  '--output-logs=errors-only',
];
// The tests come last: some of them run what was built.
const steps = await Promise.all([
  step('lint and format', 'biome', ['check', '--error-on-warnings', '.']),
  step('types and build', 'turbo', turboArgs),
]);
const testName = 'tests on SQLite and PostgreSQL, generated files fresh';
steps.push(await step(testName, 'vitest', [...vitestArgs, ...process.argv.slice(2)], { quiet: false }));

printSummary(steps, countTests(readReport()));

async function step(name, command, args, { quiet = true } = {}) {
  const result = await run(command, args, { quiet });
  if (quiet && !result.ok) console.error(`\n── ${name} ──\n${result.output}`);
  return { name, ok: result.ok, seconds: result.seconds };
}

function readReport() {
  try {
    return JSON.parse(readFileSync(reportPath, 'utf8'));
  } catch {
    return undefined;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function printSummary(rows, counts) {
  const width = Math.max(...rows.map(({ name }) => name.length));
  const line = ({ name, ok, seconds }) => `${ok ? '✓' : '✗'} ${name.padEnd(width)} ${seconds.toFixed(1).padStart(7)} s`;
  const total = { name: 'all', ok: rows.every(({ ok }) => ok), seconds: (performance.now() - startedAt) / 1000 };
  console.log(`\n${[...rows, total].map(line).join('\n')}\n`);
  const parts = [`${counts.passed} passed`, `${counts.failed} failed`];
  if (counts.skipped > 0) parts.push(`${counts.skipped} skipped`);
  console.log(parts.join(', '));
  process.exitCode = total.ok && counts.failed === 0 ? 0 : 1;
}
