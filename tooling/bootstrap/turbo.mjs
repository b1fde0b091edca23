import { ensureInstall } from './ensure-install.mjs';
import { run } from './run.mjs';

ensureInstall();
const { ok } = await run('turbo', ['run', ...process.argv.slice(2), '--output-logs=new-only']);
process.exitCode = ok ? 0 : 1;
