import { resolve } from 'node:path';
import { SchemaMismatchError, StoreUnavailableError } from '@vpn-api/db';
import { banner } from './banner.ts';
import { compose, PendingMigrationsError, type Server } from './compose.ts';
import { type Config, loadConfig } from './config/config.ts';
import { ConfigError } from './config/config-error.ts';
import { loadOrCreateDevelopmentSecrets } from './config/development-secrets.ts';
import { readEnvironment } from './config/env.ts';
import { WrongEncryptionKeyError } from './ops/check-encryption-key.ts';
import { HostSettingsError } from './ops/host-files.ts';

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

/** npm repeats to us what the terminal has already sent to the whole group: a signal this close to the first is the same one. */
const SAME_SIGNAL_MS = 1_000;

/** The first signal stops cleanly; a later one ends the process the usual way. */
function stopSignal(): Promise<NodeJS.Signals> {
  const names = ['SIGINT', 'SIGTERM'] as const;
  return new Promise((done) => {
    const listenNoMore = () => {
      for (const name of names) process.off(name, stop);
    };
    const stop = (name: NodeJS.Signals) => {
      done(name);
      setTimeout(listenNoMore, SAME_SIGNAL_MS).unref();
    };
    for (const name of names) process.on(name, stop);
  });
}

/** What an operator can act on is a sentence; anything else keeps its stack. */
function explain(error: unknown): string {
  const plain = [
    ConfigError,
    SchemaMismatchError,
    PendingMigrationsError,
    WrongEncryptionKeyError,
    StoreUnavailableError,
    HostSettingsError,
  ];
  if (plain.some((known) => error instanceof known)) return (error as Error).message;
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')
    return `${error.message}: set PORT to a free one`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
