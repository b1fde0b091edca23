import { parseSshAddress } from './ssh-address.ts';

/** More than anybody runs from one database: a limit for lists that are meant to be whole. */
export const MAX_SERVERS = 10_000;

/** A host that failed fewer times in a row than this may have had a bad minute. */
const ILL_AFTER_ATTEMPTS = 3;

export interface HealthFacts {
  readonly last_seen_at: string | null;
  /** Failures in a row. */
  readonly attempts: number;
  readonly retired_at: string | null;
}

/** Whether new peers may hope to be live on the host within seconds. */
export function isHealthy({ last_seen_at, attempts, retired_at }: HealthFacts): boolean {
  return last_seen_at !== null && attempts < ILL_AFTER_ATTEMPTS && retired_at === null;
}

export interface HostFacts {
  readonly driver: string;
  readonly address: string | null;
  readonly interface: string;
}

/**
 * Names what a server drives, however its address is written: whoever has the same is the same host. Undefined where there
 * is none, or none that can be told apart.
 */
export function hostIdentity({ driver, address, interface: name }: HostFacts): string | undefined {
  if (driver === 'local') return `local ${name}`;
  if (address === null) return undefined;
  if (driver === 'wg-easy') return URL.canParse(address) ? `wg-easy ${new URL(address).origin}` : undefined;
  const ssh = driver === 'ssh' ? parseSshAddress(address) : undefined;
  return ssh === undefined ? undefined : `ssh ${ssh.host.toLowerCase()}:${ssh.port} ${name}`;
}

/** Whether a server drives something else than before, or by another way. */
export function isAnotherHost(before: HostFacts, after: HostFacts): boolean {
  return (['driver', 'address', 'interface'] as const).some((column) => before[column] !== after[column]);
}

/** Columns of what a host said that is not this one. */
export const UNSEEN = {
  last_seen_at: null,
  last_error: null,
  last_error_at: null,
  driver_version: null,
  brake_reason: null,
} as const;

/** Columns that stand in the configs of clients. Their routes do not: each peer has its own. */
const CLIENT_COLUMNS = ['endpoint', 'public_key', 'dns', 'mtu', 'keepalive', 'protocol', 'protocol_params'] as const;

export type ClientFacts = { readonly [Column in (typeof CLIENT_COLUMNS)[number]]?: unknown };

/** Whether clients have to fetch their configs again after a change of a server's columns. */
export function changesClients(known: ClientFacts, patch: ClientFacts): boolean {
  return CLIENT_COLUMNS.some((column) => patch[column] !== undefined && patch[column] !== known[column]);
}
