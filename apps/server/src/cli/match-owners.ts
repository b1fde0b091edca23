import type { ObservedPeer } from '@vpn-api/wg';
import type { NamedOwner, PeerOwners } from '../ops/adopt-peers.ts';
import { type Owner, type Owners, parseOwner } from './owners-file.ts';

export interface OwnerSources {
  /** From a file; it comes before names. */
  readonly owners: Owners;
  /** Whether the names on the host say whose the peers are. */
  readonly matchNames: boolean;
}

/** Who the peers of a host belong to. A name in the file that several peers have names none of them for sure. */
export function matchOwners(observed: readonly ObservedPeer[], { owners, matchNames }: OwnerSources): PeerOwners {
  const named = Map.groupBy(observed, ({ tag }) => tag);
  const ownerOf = (peer: ObservedPeer): Owner | 'ambiguous' | undefined => {
    const { publicKey, tag } = peer;
    const byKey = owners.get(publicKey);
    if (byKey !== undefined || tag === undefined) return byKey;
    const byName = owners.get(tag);
    if (byName !== undefined) return named.get(tag)?.length === 1 ? byName : 'ambiguous';
    return matchNames ? ownerInName(tag) : undefined;
  };
  const found = new Map<string, NamedOwner | 'ambiguous'>();
  for (const peer of observed) {
    const owner = ownerOf(peer);
    if (owner === 'ambiguous') found.set(peer.publicKey, owner);
    else if (owner !== undefined) found.set(peer.publicKey, { deviceName: deviceNameOf(peer), ...owner });
  }
  return found;
}

/**
 * The one e-mail or Telegram id in a name: `alice@example.com`, `alice@example.com (phone)`, `tg_123456789 laptop`.
 * Undefined when there is none, or more than one. Numbers of fewer than five digits count devices, and those of more
 * than ten are telephone numbers.
 */
export function ownerInName(name: string): Owner | undefined {
  const words = name.split(/[\s,;()[\]<>"]+/).filter((word) => word.includes('@'));
  const emails = new Set(words.flatMap((word) => parseOwner(word)?.email ?? []));
  if (emails.size > 0) return only([...emails].map((email) => ({ email })));
  const numbers = new Set(name.match(/(?<![\p{L}\p{N}+])[1-9]\d{4,9}(?![\p{L}\p{N}])/gu) ?? []);
  return only([...numbers].map((number) => ({ telegramId: Number(number) })));
}

function only<T>(found: readonly T[]): T | undefined {
  return found.length === 1 ? found[0] : undefined;
}

/** What nobody sees is left out, and no more kept than a device may be called. */
function deviceNameOf({ tag = '' }: ObservedPeer): string | undefined {
  const seen = tag.normalize('NFC').replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '');
  const name = [...seen.trim()].slice(0, 64).join('').trim();
  return name === '' ? undefined : name;
}
