import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { ensureInstall } from './ensure-install.mjs';
import { root } from './root.mjs';
import { run } from './run.mjs';

/**
 * Plays every scenario of the reliability suite in full, or a few rounds of each with `--small`, and writes what it found
 * to apps/server/docs/reliability.json and, as a table, to reliability.md beside it. Other arguments go to vitest: `crash` plays one file.
 */
const isSmall = process.argv.includes('--small');
const filters = process.argv.slice(2).filter((argument) => argument !== '--small');
const folder = mkdtempSync(join(tmpdir(), 'vpn-api-reliability-'));
const reportPath = join(folder, 'results.jsonl');
const docs = join(root, 'apps', 'server', 'docs');

ensureInstall();
/** Beside the suite itself: histories against a model without rows, and forged deliveries of every provider. */
const providers = ['standard', 'stripe', 'yookassa', 'crypto-pay', 'telegram-stars'];
const others = ['test/domain/tariff-changes', ...providers.map((name) => `test/pay/${name}.test`)];
const files = filters.length > 0 ? filters.map((name) => `test/reliability/${name}`) : ['test/reliability', ...others];
const env = { RELIABILITY: isSmall ? 'small' : 'full', RELIABILITY_REPORT: reportPath };
// One file after another: each scenario has the machine to itself.
const result = await run('vitest', ['run', '--project', 'server', '--maxWorkers=1', ...files], { env });
const scenarios = readResults();
if (!isSmall && filters.length === 0 && result.ok) writeResults(scenarios);
console.log(`\n${table(scenarios)}`);
process.exitCode = result.ok ? 0 : 1;

function readResults() {
  try {
    const lines = readFileSync(reportPath, 'utf8').trimEnd().split('\n');
    return lines.map((line) => JSON.parse(line)).sort((a, b) => order(a) - order(b) || compare(a.engine, b.engine));
  } catch {
    return [];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** R2 before R17, and what has no number last. */
function order({ id }) {
  return Number(/^R(\d+)/.exec(id)?.[1] ?? 1_000);
}

function compare(a, b) {
  return a < b ? -1 : Number(a > b);
}

function writeResults(scenarios) {
  const machine = {
    cpus: cpus().length,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    memory_gb: Math.round(totalmem() / 2 ** 30),
  };
  const date = new Date().toISOString().slice(0, 10);
  const facts = { date, node: process.versions.node, machine, scenarios };
  writeFileSync(join(docs, 'reliability.json'), `${JSON.stringify(facts, null, 2)}\n`);
  writeFileSync(join(docs, 'reliability.md'), page(facts));
}

function page({ date, machine, scenarios }) {
  return `# What the reliability suite found

\`npm run reliability\` plays these scenarios in full, on both databases where one is involved; \`npm test\` plays a few rounds of each. This table is its last
full run: ${date}, ${machine.cpus} cores, ${machine.memory_gb} GB. The same as data, with all seeds: [reliability.json](reliability.json).
"0 broken" in N trials means that the true rate is below 3/N with 95 % confidence, on this kind of machine.
Play one again with its seed: \`RELIABILITY_SEED=… npm run reliability -- crash\`.

${table(scenarios)}
`;
}

function table(scenarios) {
  const rows = scenarios.map(({ id, title, engine, counts, violations, seconds, seed }) => {
    const what = Object.entries(counts).map(([name, count]) => `${name} ${count.toLocaleString('en')}`);
    return `| ${id} | ${title} | ${engine} | ${what.join(', ')} | ${violations.length} | ${seconds} s | ${seed} |`;
  });
  return ['| | scenario | database | counts | broken | time | seed |', '|---|---|---|---|---|---|---|', ...rows].join(
    '\n',
  );
}
