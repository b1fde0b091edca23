import { ensureInstall } from './ensure-install.mjs';
import { build, runInForeground } from './run.mjs';
import { node24 } from './with-node24.mjs';

ensureInstall();
await build('@vpn-api/server...');
runInForeground(node24, ['apps/server/dist/main.js', ...process.argv.slice(2)]);
