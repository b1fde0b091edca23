import { resolve } from 'node:path';
import { SchemaMismatchError, StoreUnavailableError } from '@vpn-api/db';
import { banner } from './banner.ts';
import { compose, PendingMigrationsError, type Server } from './compose.ts';
import { type Config, loadConfig } from './config/config.ts';
import { ConfigError } from './config/config-error.ts';
import { loadOrCreateDevelopmentSecrets } from './config/development-secrets.ts';
import { readEnvironment } from './config/env.ts';
import { WrongEncryptionKeyError } from './ops/check-encryption-key.ts';

/** A stop that takes longer is cut short: whatever it was, the next start finds it in the database. */
const STOP_SECONDS = 10;

/** Runs until a signal asks to stop; answers the exit code. */
export async function run(): Promise<number> {
  try {
    const { config, warnings } = loadConfig(await loadOrCreateDevelopmentSecrets(readEnvironment()));
    await using server = await compose(config);
    for (const warning of warnings) server.services.log.warn(warning);
    await serve(server, config);
    return 0;
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    return 1;
  }
}

async function serve(server: Server, config: Config): Promise<void> {
  const stopped = stopSignal();
  const address = await server.start();
  if (config.environment === 'production') server.services.log.info({ address }, 'listening');
  else process.stdout.write(banner({ address, config, dataDir: resolve(config.dataDir) }));
  const signal = await stopped;
  server.services.log.info({ signal }, 'stopping');
  setTimeout(() => process.exit(1), STOP_SECONDS * 1000).unref();
}

/** The first signal stops cleanly; a second one ends the process the usual way. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((done) => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, done);
  });
}

/** What an operator can act on is a sentence; anything else keeps its stack. */
function explain(error: unknown): string {
  const plain = [ConfigError, SchemaMismatchError, PendingMigrationsError, WrongEncryptionKeyError, StoreUnavailableError];
  if (plain.some((known) => error instanceof known)) return (error as Error).message;
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') return `${error.message}: set PORT to a free one`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
