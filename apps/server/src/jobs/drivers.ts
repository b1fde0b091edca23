import type { ServerRow } from '@vpn-api/db';
import {
  DriverError,
  generateKeyPair,
  type HostScripts,
  NoneDriver,
  OutboundGuard,
  openLocalDriver,
  openSshDriver,
  openWgEasyDriver,
  type PublicKey,
  type ShellHostOptions,
  type WgDriver,
} from '@vpn-api/wg';
import { parseSshAddress } from '../domain/ssh-address.ts';
import { openCredentials } from '../ops/host-credentials.ts';
import type { Services } from '../services.ts';

/** Opens the driver that a server's row asks for. Nothing is connected before the first call. */
export type OpenDriver = (server: ServerRow) => WgDriver;

type Deps = Pick<Services, 'config' | 'secretBox' | 'log'>;

/** Whoever writes the settings may name any address; who calls the API, only what `OUTBOUND_ALLOW` has. */
const EVERYWHERE: readonly string[] = ['0.0.0.0/0', '::/0'];

/** The opener throws a DriverError `refused` for a row that names no host. */
export function driverOpener(deps: Deps): OpenDriver {
  return (server) => {
    try {
      return openRow(deps, server);
    } catch (error) {
      if (error instanceof DriverError) throw error;
      throw new DriverError('refused', 'the settings of the server cannot be used', { cause: error });
    }
  };
}

function openRow(deps: Deps, server: ServerRow): WgDriver {
  switch (server.driver) {
    case 'local':
      return openLocalDriver(shellOptions(server));
    case 'none':
      return new NoneDriver({ publicKey: (server.public_key as PublicKey | null) ?? generateKeyPair().publicKey });
    case 'wg-easy':
      return openWgEasy(deps, server);
    case 'ssh':
      return openSsh(deps, server);
  }
}

function shellOptions({ interface: name, keys, scripts }: ServerRow): ShellHostOptions {
  return { interface: name, keys, scripts: JSON.parse(scripts) as HostScripts };
}

function allowedRanges({ config }: Deps, { origin }: ServerRow): readonly string[] {
  return origin === 'env' ? EVERYWHERE : config.outboundAllow;
}

function openWgEasy(deps: Deps, server: ServerRow): WgDriver {
  const { password, apiKey } = openCredentials(deps, server);
  return openWgEasyDriver({
    url: server.address ?? '',
    username: server.username ?? undefined,
    password,
    apiKey,
    allowPrivate: allowedRanges(deps, server),
    log: (message) => deps.log.warn({ server: server.name }, message),
  });
}

function openSsh(deps: Deps, server: ServerRow): WgDriver {
  const address = parseSshAddress(server.address ?? '');
  if (address === undefined) throw new DriverError('refused', 'the server has no SSH address');
  const { privateKey, passphrase } = openCredentials(deps, server);
  // An agent belongs to the account that runs the server: only its own settings may use it.
  const agent = privateKey === undefined && server.origin === 'env' ? process.env.SSH_AUTH_SOCK : undefined;
  return openSshDriver({
    ...address,
    ...shellOptions(server),
    privateKey,
    passphrase,
    agent,
    privilege: server.privilege,
    hostFingerprints: server.host_fingerprint?.split(' ') ?? [],
    outbound: new OutboundGuard(allowedRanges(deps, server)),
  });
}

interface Pooled {
  readonly driver: WgDriver;
  /** The columns it was opened with. */
  readonly opened: string;
}

/**
 * One open driver for each server. A row that names another host gets a new one, and the old one is closed; the memory
 * of a `none` driver lasts as long as the pool, and after a restart everything is simply set again.
 */
export class DriverPool implements AsyncDisposable {
  readonly #open: OpenDriver;
  readonly #drivers = new Map<number, Pooled>();
  readonly #closing = new Set<Promise<void>>();

  constructor(open: OpenDriver) {
    this.#open = open;
  }

  driverFor(server: ServerRow): WgDriver {
    const opened = describeHost(server);
    const known = this.#drivers.get(server.id);
    if (known?.opened === opened) return known.driver;
    const driver = this.#open(server);
    if (known !== undefined) this.#close(known.driver);
    this.#drivers.set(server.id, { driver, opened });
    return driver;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { driver } of this.#drivers.values()) this.#close(driver);
    this.#drivers.clear();
    await Promise.all(this.#closing);
  }

  #close(driver: WgDriver): void {
    const closing = closeQuietly(driver);
    this.#closing.add(closing);
    void closing.then(() => this.#closing.delete(closing));
  }
}

/** Everything that the opened driver depends on. */
function describeHost(server: ServerRow): string {
  const { driver, interface: name, keys, address, username, credentials_sealed, host_fingerprint } = server;
  const { privilege, scripts } = server;
  return JSON.stringify([
    driver,
    name,
    keys,
    address,
    username,
    credentials_sealed,
    host_fingerprint,
    privilege,
    scripts,
  ]);
}

/** A driver that cannot be closed is of no use to anybody, and nobody is left to be told. */
async function closeQuietly(driver: WgDriver): Promise<void> {
  try {
    await driver[Symbol.asyncDispose]();
  } catch {}
}
