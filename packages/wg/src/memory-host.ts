import { addressAt, FIRST_PEER_INDEX, type Pool, parsePool, parseSingleHost, printCidr } from './address.ts';
import type { ChangeResult, ObservedPeer, PeerChange, ReportedPeer, SetPeer } from './driver.ts';
import {
  generateKeyPair,
  generatePresharedKey,
  type PresharedKey,
  type PrivateKey,
  type PublicKey,
  parsePresharedKey,
  parsePublicKey,
} from './keys.ts';

export interface MemoryHostOptions {
  readonly keys: 'given' | 'reported';
  readonly suspend: 'disable' | 'remove';
  /** Where a `reported` host takes addresses from. */
  readonly pool?: string;
}

type StoredPeer = ObservedPeer & { readonly privateKey: PrivateKey | null };

/** The peers of an interface that exists only here, with WireGuard's own rules for them. */
export class MemoryHost {
  readonly #peers = new Map<PublicKey, StoredPeer>();
  /** Who got an address last; the entry is stale when that peer has gone or has other addresses now. */
  readonly #owners = new Map<string, PublicKey>();
  readonly #options: MemoryHostOptions;
  readonly #pool: Pool;

  constructor(options: MemoryHostOptions) {
    this.#options = options;
    this.#pool = parsePool(options.pool ?? '10.8.0.0/24');
  }

  list(): ObservedPeer[] {
    return [...this.#peers.values()].map(({ privateKey: _, ...peer }) => ({ ...peer }));
  }

  /** Puts a peer there as somebody else would. */
  put(peer: Partial<ObservedPeer> & Pick<ObservedPeer, 'publicKey'>): void {
    const before = this.#peers.get(peer.publicKey);
    const after = { ...NEW_PEER, ...before, ...peer };
    this.#moveAddresses(after);
    this.#peers.set(peer.publicKey, after);
  }

  delete(publicKey: PublicKey): void {
    this.#peers.delete(publicKey);
  }

  change(change: PeerChange): ChangeResult {
    try {
      if (change.type === 'set') return this.#options.keys === 'given' ? this.#set(change) : this.#setReported(change);
      const peer = this.#peers.get(change.publicKey);
      if (change.type === 'remove' || this.#options.suspend === 'remove') this.#peers.delete(change.publicKey);
      else if (peer !== undefined) this.#peers.set(change.publicKey, { ...peer, enabled: false, endpoint: null });
      return { outcome: 'applied' };
    } catch (error) {
      return { outcome: 'failed', message: error instanceof Error ? error.message : 'refused' };
    }
  }

  #set(change: SetPeer): ChangeResult {
    if (change.publicKey === null || change.addresses.length === 0) {
      return { outcome: 'failed', message: 'this host makes neither keys nor addresses' };
    }
    this.put({
      publicKey: parsePublicKey(change.publicKey),
      presharedKey: change.presharedKey === null ? null : parsePresharedKey(change.presharedKey),
      allowedIps: change.addresses.map((address) => printCidr(parseSingleHost(address))),
      enabled: true,
      tag: change.tag,
    });
    return { outcome: 'applied' };
  }

  #setReported(change: SetPeer): ChangeResult {
    const named = [...this.#peers.values()].find((peer) => peer.tag === change.tag);
    const known = change.publicKey === null ? named : this.#peers.get(change.publicKey);
    const peer = known ?? this.#make(change.tag);
    const allowedIps = change.addresses.length > 0 ? change.addresses : peer.allowedIps;
    this.put({ ...peer, allowedIps: allowedIps.map((address) => printCidr(parseSingleHost(address))), enabled: true });
    return { outcome: 'applied', reported: this.#report(peer.publicKey) };
  }

  #make(tag: string): StoredPeer {
    const { publicKey, privateKey } = generateKeyPair();
    return {
      ...NEW_PEER,
      publicKey,
      privateKey,
      presharedKey: generatePresharedKey(),
      allowedIps: [this.#freeAddress()],
      tag,
    };
  }

  #report(publicKey: PublicKey): ReportedPeer {
    const { privateKey, presharedKey, allowedIps } = this.#peers.get(publicKey) as StoredPeer;
    return { publicKey, privateKey, presharedKey: presharedKey ?? null, addresses: allowedIps, config: null };
  }

  #freeAddress(): string {
    const taken = new Set([...this.#peers.values()].flatMap((peer) => peer.allowedIps));
    for (let index = FIRST_PEER_INDEX; index <= this.#pool.lastIndex; index += 1) {
      const address = `${addressAt(this.#pool, index)}/32`;
      if (!taken.has(address)) return address;
    }
    throw new Error('the pool of the host is full');
  }

  /** An address belongs to one peer: WireGuard takes it from the one that had it, without a word. */
  #moveAddresses(to: StoredPeer): void {
    for (const address of to.allowedIps) {
      const owner = this.#owners.get(address);
      const peer = owner === undefined ? undefined : this.#peers.get(owner);
      if (peer !== undefined && peer.publicKey !== to.publicKey) {
        this.#peers.set(peer.publicKey, { ...peer, allowedIps: peer.allowedIps.filter((other) => other !== address) });
      }
      this.#owners.set(address, to.publicKey);
    }
  }
}

const NEW_PEER = {
  privateKey: null,
  presharedKey: null as PresharedKey | null,
  allowedIps: [] as readonly string[],
  enabled: true,
  endpoint: null,
  lastHandshakeAt: null,
  rxBytes: 0,
  txBytes: 0,
} as const;
