import {
  findServerByName,
  type NewServer,
  raiseConfigVersions,
  recordLearned,
  type ServerRow,
  type Tx,
  updateServer,
  upsertEnvServer,
} from '@vpn-api/db';
import {
  DriverError,
  derivePublicKey,
  generateKeyPair,
  type InterfaceDescription,
  type PrivateKey,
  printEndpoint,
  type WgDriver,
} from '@vpn-api/wg';
import type { Config } from '../config/config.ts';
import { DomainError } from '../domain/errors.ts';
import { changesClients, isAnotherHost, UNSEEN } from '../domain/server.ts';
import { parseSshAddress } from '../domain/ssh-address.ts';
import type { Services } from '../services.ts';
import { type HostCredentials, openCredentials, sealCredentials } from './host-credentials.ts';
import { HostSettingsError, readHostFiles } from './host-files.ts';
import { keepPlaces, lockOwners, takesOverAddresses } from './keep-places.ts';

/** Name of the server that the environment describes. */
export const ENV_SERVER_NAME = 'default';

/** WireGuard's usual port, for the demo server that no packet ever reaches. */
const DEMO_PORT = 51_820;

type Deps = Pick<Services, 'store' | 'clock' | 'config' | 'secretBox' | 'log' | 'outbox'>;

/**
 * Brings the row of the environment's server up to date. A host that was driven before and that the settings no longer
 * name stays what it is and is only observed: its peers are still there.
 * @throws HostSettingsError for a file that cannot be read, and for a pool without the addresses of a wg-easy that another
 * kind of host takes over
 */
export async function syncEnvServer(deps: Deps): Promise<ServerRow> {
  const { store, clock, config } = deps;
  const host = await readHostFiles(config);
  return store.transaction(async (tx) => {
    const known = await findServerByName(tx, ENV_SERVER_NAME);
    const described = { ...describedColumns(config), ...hostColumns(config, known) };
    const isTakeover = known !== undefined && takesOverAddresses(known, described);
    if (isTakeover) await lockOwners(tx, known.id);
    if (known !== undefined && changesClients(known, described)) await raiseConfigVersions(tx, known.id);
    const server = await upsertEnvServer(tx, {
      name: ENV_SERVER_NAME,
      created_at: clock.now(),
      ...described,
      ...(host.fingerprint === undefined ? {} : { host_fingerprint: host.fingerprint }),
      ...(known !== undefined && isAnotherHost(known, { ...known, ...described }) ? UNSEEN : {}),
    });
    if (isTakeover) await keepPlaces(deps, tx, server).catch(asSettingsError);
    if (config.host.kind === 'none') return server.driver === 'none' ? giveDemoKey(deps, tx, server) : server;
    return keepCredentials(deps, tx, { server, credentials: host.credentials });
  });
}

function asSettingsError(error: unknown): never {
  const [issue] = error instanceof DomainError ? error.issues : [];
  throw issue === undefined ? error : new HostSettingsError(`WG_POOL_V4 ${issue.message}`, { cause: error });
}

function describedColumns({ wireguard }: Config) {
  return {
    interface: wireguard.interface,
    pool_v4: wireguard.poolV4,
    pool_v6: wireguard.poolV6 ?? null,
    dns: wireguard.dns.join(', '),
    mtu: wireguard.mtu,
    client_allowed_ips: wireguard.clientAllowedIps.join(', '),
    keepalive: wireguard.keepaliveSeconds,
    ...(wireguard.serverPublicKey === undefined ? {} : { public_key: wireguard.serverPublicKey }),
    ...(wireguard.endpoint === undefined ? {} : { endpoint: wireguard.endpoint }),
  } as const;
}

type HostColumns = Pick<NewServer, 'driver' | 'mode' | 'keys' | 'address' | 'username' | 'privilege' | 'scripts'>;

function hostColumns({ host, wireguard }: Config, known: ServerRow | undefined): HostColumns {
  const keys = wireguard.hostKeys;
  switch (host.kind) {
    case 'none':
      return known === undefined || known.driver === 'none'
        ? { driver: 'none', mode: 'apply', keys: 'given' }
        : { driver: known.driver, mode: 'observe', keys: known.keys };
    case 'local':
      return { driver: 'local', mode: host.mode, keys, address: null, scripts: JSON.stringify(wireguard.hostScripts) };
    case 'wg-easy':
      return { driver: 'wg-easy', mode: host.mode, keys, address: host.url, username: host.username ?? null };
    case 'ssh': {
      const { mode, address, privilege } = host;
      return { driver: 'ssh', mode, keys, address, privilege, scripts: JSON.stringify(wireguard.hostScripts) };
    }
  }
}

/** Sealed texts differ each time; the same credentials keep the old one, so that no open connection is closed for it. */
async function keepCredentials(
  deps: Deps,
  tx: Tx,
  { server, credentials }: { readonly server: ServerRow; readonly credentials: HostCredentials },
): Promise<ServerRow> {
  const wanted = JSON.stringify(credentials);
  if (JSON.stringify(openCredentials(deps, server)) === wanted) return server;
  return updateServer(tx, server.id, { credentials_sealed: sealCredentials(deps, server.id, credentials) });
}

/** Without a host there is nobody to ask for a key, and development still wants a complete config to show. */
async function giveDemoKey({ config, secretBox }: Deps, tx: Tx, server: ServerRow): Promise<ServerRow> {
  if (config.environment === 'production') return server;
  const column = 'servers.private_key';
  const stored = server.private_key_sealed;
  const sealed = stored ?? secretBox.seal({ column, rowId: server.id }, generateKeyPair().privateKey);
  const privateKey = secretBox.open({ column, rowId: server.id }, sealed) as PrivateKey;
  const patch = {
    private_key_sealed: sealed,
    public_key: server.public_key ?? derivePublicKey(privateKey),
    endpoint: server.endpoint ?? `${endpointHost(config) ?? '127.0.0.1'}:${DEMO_PORT}`,
  };
  return (await updateServer(tx, server.id, patch)) ?? server;
}

function endpointHost({ publicUrl }: Config): string | undefined {
  return publicUrl === undefined ? undefined : new URL(publicUrl).hostname;
}

/**
 * Asks the host what client configs need and the settings do not say: its public key, and where clients connect to.
 * Answers the row as it is then. A host that does not tell is asked again in the next pass.
 */
export async function learnFromHost(
  deps: Pick<Services, 'store' | 'config'>,
  server: ServerRow,
  { driver, signal }: { readonly driver: WgDriver; readonly signal: AbortSignal },
): Promise<ServerRow> {
  const isComplete = server.public_key !== null && server.endpoint !== null;
  const isDoubtful = mayBeOfAnotherHost(deps, server);
  if (server.driver === 'none' || (isComplete && !isDoubtful)) return server;
  const told = await driver.describe(signal).catch(unlessRefused);
  if (told === undefined) return server;
  const learned = learnedColumns(deps.config, server, told);
  return isDoubtful ? replaceLearned(deps, server, learned) : recordLearned(deps.store, server.id, learned);
}

/** The settings name another host than before and do not say these: what the row says is of the host before it. */
function mayBeOfAnotherHost({ config }: Pick<Services, 'config'>, { origin, last_seen_at }: ServerRow): boolean {
  const { serverPublicKey, endpoint } = config.wireguard;
  const isSaid = serverPublicKey !== undefined && endpoint !== undefined;
  return origin === 'env' && last_seen_at === null && !isSaid;
}

async function replaceLearned(
  { store, config: { wireguard } }: Pick<Services, 'store' | 'config'>,
  server: ServerRow,
  learned: Pick<ServerRow, 'public_key' | 'endpoint'>,
): Promise<ServerRow> {
  const columns = {
    public_key: wireguard.serverPublicKey ?? learned.public_key,
    endpoint: wireguard.endpoint ?? learned.endpoint ?? server.endpoint,
  };
  // Nobody had a config before there was something to write into it.
  const isOther = (column: keyof typeof columns) => server[column] !== null && server[column] !== columns[column];
  return store.transaction(async (tx) => {
    if (isOther('public_key') || isOther('endpoint')) await raiseConfigVersions(tx, server.id);
    return updateServer(tx, server.id, columns);
  });
}

/** What a host told of what a row does not say. Where clients connect to is where we do, unless the host knows better. */
export function learnedColumns(
  config: Config,
  server: ServerRow,
  { publicKey, listenPort, endpoint }: InterfaceDescription,
): Pick<ServerRow, 'public_key' | 'endpoint'> {
  const host = hostName(config, server);
  const guess = host === undefined || listenPort === undefined ? null : printEndpoint({ host, port: listenPort });
  return { public_key: publicKey, endpoint: endpoint ?? guess };
}

/** Undefined for a wg-easy of which only the address of its page is known: that is often one behind a proxy. */
function hostName(config: Config, { driver, address, origin }: ServerRow): string | undefined {
  if (driver === 'ssh') return parseSshAddress(address ?? '')?.host;
  return origin === 'env' ? endpointHost(config) : undefined;
}

function unlessRefused(error: unknown): undefined {
  if (!(error instanceof DriverError) || error.code !== 'refused') throw error;
}
