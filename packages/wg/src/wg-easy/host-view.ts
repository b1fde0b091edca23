import { parseHostCidr } from '../address.ts';
import type { PeerChange, SetPeer } from '../driver.ts';
import type { PublicKey } from '../keys.ts';
import type { RemoteClient } from './protocol.ts';

/** The clients of a host as last listed, with what was done since. */
export class HostView {
  readonly #clients: Map<string, RemoteClient>;

  constructor(clients: readonly RemoteClient[]) {
    this.#clients = new Map(clients.map((client) => [client.id, client]));
  }

  all(): RemoteClient[] {
    return [...this.#clients.values()];
  }

  byKey(publicKey: PublicKey): RemoteClient | undefined {
    return this.all().find((client) => client.publicKey === publicKey);
  }

  has({ id }: RemoteClient): boolean {
    return this.#clients.has(id);
  }

  put(client: RemoteClient): void {
    this.#clients.set(client.id, client);
  }

  delete({ id }: RemoteClient): void {
    this.#clients.delete(id);
  }

  /** Who else has one of these addresses. */
  holderOf(addresses: readonly string[], except: RemoteClient | undefined): RemoteClient | undefined {
    return this.all().find(
      (client) => client.id !== except?.id && client.addresses.some((address) => addresses.includes(address)),
    );
  }
}

export interface Named {
  /** The one that stays: the wanted key, else the oldest. undefined: there is none. */
  readonly keeper: RemoteClient | undefined;
  /** Twins, made by a create whose answer was lost. */
  readonly twins: readonly RemoteClient[];
}

/** Which client a wish means. Names are not unique in wg-easy. `leaving` are keys that are to go: nobody's keeper. */
export function findNamed(view: HostView, wish: SetPeer, leaving: ReadonlySet<PublicKey>): Named {
  const named = view.all().filter(({ name, publicKey }) => name === wish.tag && !leaving.has(publicKey));
  const wanted = wish.publicKey === null ? undefined : view.byKey(wish.publicKey);
  const keeper = wanted ?? named.toSorted(byAge)[0];
  return { keeper, twins: named.filter((client) => client !== keeper) };
}

function byAge(a: RemoteClient, b: RemoteClient): number {
  return compare(a.createdAt, b.createdAt) || a.id.length - b.id.length || compare(a.id, b.id);
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

/** What the wish asks for, completed by what the client has: without addresses, or without one family, the host's stay. */
export function wantedAddresses({ addresses }: SetPeer, client: RemoteClient): readonly string[] {
  if (addresses.length === 0) return client.addresses;
  const families = new Set(addresses.map(familyOf));
  return [...addresses, ...client.addresses.filter((address) => !families.has(familyOf(address)))];
}

export function hasWantedAddresses(wish: SetPeer, client: RemoteClient): boolean {
  if (wish.addresses.length === 0) return true;
  const wanted = wantedAddresses(wish, client);
  const isSame = wanted.length === client.addresses.length && wanted.every((one) => client.addresses.includes(one));
  return isSame && client.extraAddresses.length === 0;
}

/**
 * Whether the host's list shows what a change wanted. `live`: WireGuard must agree with the list, as it does unless a sync
 * failed or changes ran into each other.
 */
export function isVisible(
  view: HostView,
  change: PeerChange,
  { leaving, live }: { readonly leaving: ReadonlySet<PublicKey>; readonly live: boolean },
): boolean {
  if (change.type === 'set') {
    const { keeper, twins } = findNamed(view, change, leaving);
    if (keeper === undefined || twins.length > 0 || !hasWantedAddresses(change, keeper)) return false;
    return keeper.enabled && (keeper.isLive || !live);
  }
  const client = view.byKey(change.publicKey);
  if (client === undefined) return true;
  return change.type === 'suspend' && !client.enabled && (!client.isLive || !live);
}

function familyOf(address: string): number {
  try {
    return parseHostCidr(address).family;
  } catch {
    return 0;
  }
}
