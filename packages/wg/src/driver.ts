import type { PresharedKey, PrivateKey, PublicKey } from './keys.ts';

export type DriverKind = 'wg-easy' | 'ssh' | 'local' | 'none' | 'fake';

/**
 * One WireGuard interface on one host, seen as a set of peers.
 *
 * Every method takes an `AbortSignal`; it is the only clock a driver knows, so give it a timeout:
 * `driver.list(AbortSignal.timeout(10_000))`. Methods throw {@link DriverError} and nothing else, and may run at the
 * same time: a driver whose host cannot bear that queues by itself. A driver keeps no memory of what it did: truth is
 * what {@link WgDriver.list} reads from the host.
 */
export interface WgDriver extends AsyncDisposable {
  readonly kind: DriverKind;

  /** `given`: the caller chooses keys and addresses. `reported`: the host makes them and answers what it made. */
  readonly keys: 'given' | 'reported';

  /** What the host said it runs, where hosts say so: `14`, `15`. Known once one has answered. */
  readonly version?: string | undefined;

  /** What a `suspend` does: `disable` keeps the peer on the host, `remove` takes it off until the next `set`. */
  readonly suspend: 'disable' | 'remove';

  /** The interface itself. Cheap: also the test of reachability and credentials. */
  describe(signal: AbortSignal): Promise<InterfaceDescription>;

  /** Every peer on the interface, ours and foreign, in the host's order. */
  list(signal: AbortSignal): Promise<ObservedPeer[]>;

  /**
   * Makes the changes in the given order and answers one result for each, in the same order. Repeating a change that
   * was made is harmless, removing or suspending an unknown peer counts as applied.
   *
   * A thrown error stands for all changes: with {@link DriverError.outcomeUnknown} any of them may have been made (list
   * before believing anything), otherwise none was.
   */
  apply(changes: readonly PeerChange[], signal: AbortSignal): Promise<ChangeResult[]>;

  /**
   * Reads what the host made for peers that are there, and changes nothing. Left out are those it does not have, and
   * those whose configuration cannot be used. Only on hosts that keep configurations.
   */
  read?(publicKeys: readonly PublicKey[], signal: AbortSignal): Promise<readonly ReportedPeer[]>;
}

export interface InterfaceDescription {
  readonly publicKey: PublicKey;
  /** UDP port, absent where the host does not tell. */
  readonly listenPort?: number;
  /** What the host itself tells its clients to connect to, `vpn.example.com:51820`, where it does. */
  readonly endpoint?: string;
}

/** A peer as the host shows it. May carry a preshared key: never log one whole. */
export interface ObservedPeer {
  readonly publicKey: PublicKey;
  /** null: it has none. undefined: the host does not tell. */
  readonly presharedKey: PresharedKey | null | undefined;
  /** CIDR text, canonical where it could be read. */
  readonly allowedIps: readonly string[];
  /** false only on hosts that can disable a peer without deleting it. */
  readonly enabled: boolean;
  /** Where the peer was last seen, `198.51.100.7:51820`, or null. */
  readonly endpoint: string | null;
  /** ISO-8601 UTC with milliseconds, or null before the first handshake. */
  readonly lastHandshakeAt: string | null;
  /** Bytes the host received from the peer. Hosts start again at 0 whenever they please. */
  readonly rxBytes: number;
  /** Bytes the host sent to the peer. */
  readonly txBytes: number;
  /** The name the peer was made under, on hosts that keep names. */
  readonly tag?: string;
}

/** Adds a peer, updates it in place, or enables it again: afterwards the host has exactly this. */
export interface SetPeer {
  readonly type: 'set';
  /** null asks a `reported` host to make the peer called `tag`, or to report it when it is there already. */
  readonly publicKey: PublicKey | null;
  readonly presharedKey: PresharedKey | null;
  /** Single hosts only, `10.8.0.14/32` and `fd00::e/128`. Empty: a `reported` host chooses, or keeps what it chose. */
  readonly addresses: readonly string[];
  /** Unique for this peer, `[A-Za-z0-9_.-]{1,32}`. Hosts that keep names store it; others ignore it. */
  readonly tag: string;
}

export interface SuspendPeer {
  readonly type: 'suspend';
  readonly publicKey: PublicKey;
  readonly tag: string | null;
}

export interface RemovePeer {
  readonly type: 'remove';
  readonly publicKey: PublicKey;
  /** null when nobody wants the peer any more and its name is not known. */
  readonly tag: string | null;
}

export type PeerChange = SetPeer | SuspendPeer | RemovePeer;

export type ChangeResult =
  | {
      readonly outcome: 'applied';
      /** After a `set` on a `reported` host: what the host made. */
      readonly reported?: ReportedPeer;
    }
  | {
      readonly outcome: 'failed';
      readonly message: string;
      /** The host was lost before the change had its turn: this says nothing about the change itself. */
      readonly hostLost?: true;
    }
  /** The host was asked, its answer is lost, and the change is not visible. */
  | { readonly outcome: 'unknown'; readonly message: string; readonly hostLost?: true };

/** Keys and addresses a `reported` host chose. Holds secrets. */
export interface ReportedPeer {
  readonly publicKey: PublicKey;
  /** null when the host does not give it out. */
  readonly privateKey: PrivateKey | null;
  readonly presharedKey: PresharedKey | null;
  /** Single hosts, as in {@link SetPeer.addresses}. */
  readonly addresses: readonly string[];
  /** The wg-quick file as the host wrote it, untrusted: read it with `parseClientConfig`. null when it gives none. */
  readonly config: string | null;
}

export type DriverErrorCode =
  /** No connection. Nothing was changed. */
  | 'unreachable'
  /** The host answered and will not do it. Nothing was changed. */
  | 'refused'
  /** Wrong credentials or host key. Nothing was changed. */
  | 'auth_failed'
  /** The host is there, the interface is not. Nothing was changed. */
  | 'interface_missing'
  /** The signal was aborted. */
  | 'timeout'
  /** The connection or the command died under way. */
  | 'unknown_outcome'
  /** The host answered something that cannot be read. */
  | 'bad_answer';

const UNKNOWN_OUTCOMES: ReadonlySet<DriverErrorCode> = new Set(['timeout', 'unknown_outcome', 'bad_answer']);

/** The only error drivers throw. `message` is for logs and holds no key, password or output of the host. */
export class DriverError extends Error {
  override readonly name = 'DriverError';
  readonly code: DriverErrorCode;

  constructor(code: DriverErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  /** Whether an `apply` that threw this may have changed the host. */
  get outcomeUnknown(): boolean {
    return UNKNOWN_OUTCOMES.has(this.code);
  }
}

/** Throws a `timeout` when the signal is aborted already. For the first line of driver methods. */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new DriverError('timeout', 'aborted before the host was asked', { cause: signal.reason });
}
