import { recordLearned, type ServerRow } from '@vpn-api/db';
import { DriverError, type DriverErrorCode, type InterfaceDescription, type ObservedPeer } from '@vpn-api/wg';
import { epochMs } from '../domain/instant.ts';
import type { Services } from '../services.ts';
import { askHost } from './ask-host.ts';
import { learnedColumns } from './env-server.ts';
import { getServer } from './get-server.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'config' | 'hosts'>;

export type CheckName = 'reachable' | 'host_key' | 'credentials' | 'interface' | 'list' | 'clock' | 'client_config';

export interface Check {
  readonly name: CheckName;
  /** null: it could not be found out. */
  readonly ok: boolean | null;
  /** What was found and what to do about it, in words. */
  readonly message: string;
}

/** Handshakes are told to the second, and a clock that is off by less harms nobody. */
const CLOCK_TOLERANCE_MS = 60_000;
/** A tunnel in use shakes hands every two minutes. */
const FRESH_HANDSHAKE_MS = 180_000;

/**
 * Asks a host everything that a pass will need, changes nothing on it and keeps nothing but what clients must know and
 * nobody has told yet: its public key and endpoint.
 * @throws DomainError `server_not_found`
 */
export async function testServer(deps: Deps, serverId: number): Promise<readonly Check[]> {
  const server = await getServer(deps.store, serverId);
  if (server.driver === 'none') return [good('reachable', 'there is no host: every change counts as made')];
  const described = await attempt(() => askHost(deps, server, (driver, signal) => driver.describe(signal)));
  if (described instanceof DriverError && described.code !== 'refused') return failure(server, described);
  const listed = await attempt(() => askHost(deps, server, (driver, signal) => driver.list(signal)));
  if (listed instanceof DriverError) return failure(server, listed);
  const known = described instanceof DriverError ? server : await learn(deps, server, described);
  return [
    good('reachable', 'the host answers'),
    ...(server.driver === 'ssh' ? [good('host_key', 'the host shows the pinned key')] : []),
    good('credentials', 'the host takes them'),
    interfaceCheck(known, described),
    good('list', listed.length === 1 ? '1 peer on the interface' : `${listed.length} peers on the interface`),
    clockCheck(listed, epochMs(deps.clock.now())),
    configCheck(known),
  ];
}

async function attempt<T>(ask: () => Promise<T>): Promise<T | DriverError> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof DriverError) return error;
    throw error;
  }
}

function good(name: CheckName, message: string): Check {
  return { name, ok: true, message };
}

function bad(name: CheckName, message: string): Check {
  return { name, ok: false, message };
}

/** Which check an error belongs to; those before it went well, those behind it were not reached. */
const failedChecks: Readonly<Record<DriverErrorCode, CheckName>> = {
  unreachable: 'reachable',
  timeout: 'reachable',
  unknown_outcome: 'reachable',
  auth_failed: 'credentials',
  refused: 'credentials',
  interface_missing: 'interface',
  bad_answer: 'list',
};

const advice: Readonly<Record<DriverErrorCode, string>> = {
  unreachable: 'check the address, the port and the firewall',
  timeout: 'it took more than 10 seconds; check the load of the host and the way to it',
  unknown_outcome: 'the connection died; try again',
  auth_failed: 'check the user, the key or the password',
  refused: 'check the settings of this server and what the account may do on the host',
  interface_missing: 'bring the interface up on the host, or name the one that is there',
  bad_answer: 'check that the address is the one of the host',
};

const ORDER: readonly CheckName[] = ['reachable', 'host_key', 'credentials', 'interface', 'list'];

function failure(server: ServerRow, error: DriverError): Check[] {
  const fingerprint = /SHA256:[A-Za-z0-9+/]{43}/.exec(error.message)?.[0];
  if (error.code === 'auth_failed' && fingerprint !== undefined) return wrongHostKey(server, error, fingerprint);
  const failed = failedChecks[error.code];
  const before = ORDER.slice(0, ORDER.indexOf(failed)).flatMap((name) => passedCheck(server, name, error));
  return [...before, bad(failed, `${error.message}; ${advice[error.code]}`)];
}

function passedCheck({ driver, host_fingerprint }: ServerRow, name: CheckName, { code }: DriverError): Check[] {
  // What answers may be no wg-easy at all, and nobody logged in.
  const isUnproven = driver === 'wg-easy' && code === 'bad_answer' && name !== 'reachable';
  if (isUnproven && name !== 'host_key') return [{ name, ok: null, message: 'unknown: the answers make no sense' }];
  if (name !== 'host_key') return [good(name, 'fine')];
  if (driver !== 'ssh') return [];
  if (host_fingerprint !== null) return [good(name, 'the host shows the pinned key')];
  return [{ name, ok: null, message: 'no key is pinned yet' }];
}

function wrongHostKey({ host_fingerprint }: ServerRow, error: DriverError, fingerprint: string): Check[] {
  const compare = 'compare it with what ssh-keygen -lf says on the host itself';
  const message =
    host_fingerprint === null
      ? `no key is pinned; ${compare}, then pin this fingerprint: ${fingerprint}`
      : `${error.message}; somebody may be in between. If the host was set up anew, ${compare}, and pin: ${fingerprint}`;
  return [good('reachable', 'the host answers'), bad('host_key', message)];
}

/** Keeps what is missing in the row; what differs is for a person to decide. */
async function learn(deps: Deps, server: ServerRow, told: InterfaceDescription): Promise<ServerRow> {
  if (server.public_key !== null && server.endpoint !== null) return server;
  return recordLearned(deps.store, server.id, learnedColumns(deps.config, server, told));
}

function interfaceCheck({ interface: name, public_key }: ServerRow, told: InterfaceDescription | DriverError): Check {
  if (told instanceof DriverError) {
    return { name: 'interface', ok: null, message: `the host does not tell about itself yet: ${told.message}` };
  }
  if (public_key === told.publicKey) return good('interface', `${name} is up, with the public key ${told.publicKey}`);
  return bad(
    'interface',
    `the host has the public key ${told.publicKey}, clients are told another: no tunnel will come up. Set public_key, or null to take the host's`,
  );
}

/** The only clock that every kind of host shows is the one in its handshakes. */
function clockCheck(observed: readonly ObservedPeer[], now: number): Check {
  const times = observed.flatMap(({ lastHandshakeAt }) =>
    lastHandshakeAt === null ? [] : [Date.parse(lastHandshakeAt)],
  );
  const latest = times.length === 0 ? undefined : Math.max(...times);
  if (latest === undefined) return { name: 'clock', ok: null, message: 'unknown: no peer has shaken hands yet' };
  const ahead = latest - now;
  if (ahead > CLOCK_TOLERANCE_MS) {
    const seconds = Math.round(ahead / 1000);
    return bad('clock', `the host's clock is at least ${seconds} s ahead of ours; set up time synchronisation on both`);
  }
  if (ahead > -FRESH_HANDSHAKE_MS) return good('clock', 'the latest handshake is from now');
  return { name: 'clock', ok: null, message: 'unknown: no peer has shaken hands lately' };
}

function configCheck({ public_key, endpoint }: ServerRow): Check {
  if (public_key === null) return bad('client_config', 'set public_key: the host does not tell it yet');
  if (endpoint === null) return bad('client_config', 'set endpoint, host:port: what clients connect to is not known');
  return good('client_config', `clients connect to ${endpoint}`);
}
