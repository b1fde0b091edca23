import { loadConfig, storeUrl } from '../config/config.ts';
import { loadOrCreateDevelopmentSecrets } from '../config/development-secrets.ts';
import { readEnvironment } from '../config/env.ts';
import { migrate } from './migrate.ts';
import { runOpenApi } from './openapi.ts';

const usage = `Usage: vpn-api COMMAND

  migrate    bring the database of DATABASE_URL to the schema of this version
  openapi    print the OpenAPI document; with --write, store it
`;

async function main(command: string | undefined, args: readonly string[]): Promise<number> {
  if (command === 'openapi') return runOpenApi(args);
  if (command !== 'migrate') {
    process.stderr.write(usage);
    return 2;
  }
  const { config } = loadConfig(await loadOrCreateDevelopmentSecrets(readEnvironment()));
  await migrate(storeUrl(config.database));
  return 0;
}

try {
  process.exitCode = await main(process.argv[2], process.argv.slice(3));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
