import { type Config, loadConfig, storeUrl } from '../config/config.ts';
import { loadOrCreateDevelopmentSecrets } from '../config/development-secrets.ts';
import { readEnvironment } from '../config/env.ts';
import { runAdopt } from './adopt.ts';
import { runDoctorCommand } from './doctor.ts';
import { migrate } from './migrate.ts';
import { runOpenApi } from './openapi.ts';
import { runRecompute } from './recompute.ts';

const usage = `Usage: vpn-api COMMAND

  migrate                      bring the database of DATABASE_URL to the schema of this version
  doctor [--json]              look for broken invariants in the database; exits with 1 when it finds any
  recompute --user ID [--fix]  derive a user's subscription from payments and events and compare it with what is stored
  adopt --server NAME|ID [--users FILE] [--match-names] [--create-users] [--apply] [--json]
                               show which peers of a running host would become whose devices; with --apply, make them so
  openapi                      print the OpenAPI document; with --write, store it
`;

/** Commands that work on the database of DATABASE_URL. Each answers the exit code. */
const databaseCommands: Readonly<Record<string, (url: string, args: readonly string[]) => Promise<number>>> = {
  migrate: (url) => migrate(url).then(() => 0),
  doctor: runDoctorCommand,
  recompute: runRecompute,
};

async function main(name: string | undefined, args: readonly string[]): Promise<number> {
  if (name === 'openapi') return runOpenApi(args);
  if (name === 'adopt') return runAdopt(await readConfig(), args);
  const command = name !== undefined && Object.hasOwn(databaseCommands, name) ? databaseCommands[name] : undefined;
  if (command === undefined) {
    process.stderr.write(usage);
    return 2;
  }
  return command(storeUrl((await readConfig()).database), args);
}

async function readConfig(): Promise<Config> {
  return loadConfig(await loadOrCreateDevelopmentSecrets(readEnvironment())).config;
}

try {
  process.exitCode = await main(process.argv[2], process.argv.slice(3));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
