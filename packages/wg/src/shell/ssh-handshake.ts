import { connect, type Socket } from 'node:net';
import ssh2, { type Algorithms, type ConnectConfig, type Client as SshClient } from 'ssh2';
import { DriverError } from '../driver.ts';
import { hostKeyFingerprint } from './known-hosts.ts';

export interface HandshakeInput {
  /** An IP address, or a name to be resolved by the system. */
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly privateKey: string | Buffer | undefined;
  readonly passphrase: string | undefined;
  readonly agent: string | undefined;
  /** `SHA256:…` without padding. */
  readonly fingerprints: ReadonlySet<string>;
  readonly readyTimeoutMs: number;
  readonly keepaliveMs: number;
  /** Gives up. */
  readonly signal: AbortSignal;
}

/** A client that is let in, and the socket below it: ssh2 does not let go of one that it has said goodbye on. */
export interface SshSession {
  readonly client: SshClient;
  readonly socket: Socket;
}

/** The server closed the door before it said anything: it has too many connections in the making. Worth another try. */
export class TurnedAway extends DriverError {
  constructor(cause: unknown) {
    super('unreachable', 'the host closed the connection before the handshake', { cause });
  }
}

/** Host key algorithms with SHA-2 or better, by what the key calls itself. */
const HOST_KEY_ALGORITHMS = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
} as const satisfies Record<string, Algorithms['serverHostKey']>;
type HostKeyType = keyof typeof HOST_KEY_ALGORITHMS;

/** Keepalives that may stay unanswered: then the connection counts as dead. */
const KEEPALIVES_LOST = 3;

/**
 * Opens one authenticated connection to a host whose key is pinned. A host has several keys and shows the one that
 * both sides like best, so a key that is not pinned is an answer only when the host has shown all it has.
 *
 * The client that is returned has an `error` listener: without one, a dying connection would end the process.
 * @throws DriverError `unreachable` or `auth_failed`
 */
export async function shakeHands(input: HandshakeInput): Promise<SshSession> {
  const refused: string[] = [];
  const types = new Set(Object.keys(HOST_KEY_ALGORITHMS) as HostKeyType[]);
  while (types.size > 0) {
    const attempt = await connectOnce(input, [...types]);
    if ('client' in attempt) return attempt;
    // Nothing in common any more: the host has shown all its keys.
    if (attempt.presented === null) {
      if (refused.length === 0) throw attempt.error;
      break;
    }
    refused.push(attempt.presented.fingerprint);
    if (!types.delete(attempt.presented.type as HostKeyType)) break;
  }
  const what = input.fingerprints.size === 0 ? 'no key of this host is pinned' : 'the host key is not the pinned one';
  throw new DriverError('auth_failed', `${what}: the host presented ${refused.join(', ')}`);
}

interface FailedAttempt {
  /** The key that was refused, or null when the host has none of the kinds asked for. */
  readonly presented: { readonly type: string; readonly fingerprint: string } | null;
  readonly error: DriverError;
}

function connectOnce(input: HandshakeInput, types: readonly HostKeyType[]): Promise<SshSession | FailedAttempt> {
  const { promise, resolve, reject } = Promise.withResolvers<SshSession | FailedAttempt>();
  const client = new ssh2.Client();
  // SSH answers small packets with small packets: waiting to fill them costs 40 ms each time.
  const socket = connect({ host: input.address, port: input.port, noDelay: true });
  let presented: FailedAttempt['presented'] = null;
  const verify = (key: Buffer) => {
    const fingerprint = hostKeyFingerprint(key);
    if (input.fingerprints.has(fingerprint)) return true;
    presented = { type: keyType(key), fingerprint };
    return false;
  };
  const giveUp = () => socket.destroy();
  const fail = (error: DriverError) => {
    input.signal.removeEventListener('abort', giveUp);
    socket.destroy();
    if (presented !== null || isNothingInCommon(error.cause)) resolve({ presented, error });
    else reject(error);
  };
  client.on('error', (error: Error & { level?: string }) => {
    // An agent that fails is not the end: another way to prove who we are may be left.
    if (error.level !== 'agent') fail(connectError(error));
  });
  client.once('close', () => fail(new DriverError('unreachable', 'the connection was closed during the handshake')));
  client.once('ready', () => {
    input.signal.removeEventListener('abort', giveUp);
    resolve({ client, socket });
  });
  input.signal.addEventListener('abort', giveUp, { once: true });
  try {
    client.connect({ ...connectConfig(input, types, verify), sock: socket });
  } catch {
    input.signal.removeEventListener('abort', giveUp);
    socket.on('error', () => {}).destroy();
    // What ssh2 throws here is about the key, the passphrase or the agent, and may quote them.
    reject(new DriverError('auth_failed', 'the private key, its passphrase or the agent cannot be used'));
  }
  return promise;
}

function connectConfig(
  input: HandshakeInput,
  types: readonly HostKeyType[],
  hostVerifier: (key: Buffer) => boolean,
): ConnectConfig {
  return {
    username: input.user,
    ...(input.privateKey !== undefined && { privateKey: input.privateKey }),
    ...(input.passphrase !== undefined && { passphrase: input.passphrase }),
    ...(input.agent !== undefined && { agent: input.agent }),
    hostVerifier,
    algorithms: { serverHostKey: types.flatMap((type) => [...HOST_KEY_ALGORITHMS[type]]) },
    readyTimeout: input.readyTimeoutMs,
    keepaliveInterval: input.keepaliveMs,
    keepaliveCountMax: KEEPALIVES_LOST,
  };
}

/** A raw key begins with the length and text of its type. */
function keyType(key: Buffer): string {
  return key.subarray(4, 4 + key.readUInt32BE(0)).toString('latin1');
}

function isNothingInCommon(cause: unknown): boolean {
  return cause instanceof Error && /no matching host key format/.test(cause.message);
}

function connectError(error: Error & { level?: string; code?: unknown }): DriverError {
  if (error.level === 'client-authentication' || /authentication failures/i.test(error.message)) {
    return new DriverError('auth_failed', 'the host refuses the user or its key', { cause: error });
  }
  if (error.message === 'Connection lost before handshake' || error.code === 'ECONNRESET') return new TurnedAway(error);
  if (error.level === 'client-timeout') {
    return new DriverError('unreachable', 'the host did not answer in time', { cause: error });
  }
  const reason = typeof error.code === 'string' ? error.code : 'the handshake failed';
  return new DriverError('unreachable', `no connection: ${reason}`, { cause: error });
}
