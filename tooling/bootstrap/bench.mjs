import { ensureInstall } from './ensure-install.mjs';
import { build, runInForeground } from './run.mjs';
import { node24 } from './with-node24.mjs';

ensureInstall();
await build('@vpn-api/server...', '@vpn-api/sdk');
runInForeground(node24, ['tooling/bench/bench.ts', ...process.argv.slice(2)]);
