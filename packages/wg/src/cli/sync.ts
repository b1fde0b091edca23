import { type DesiredPeer, diffPeers, type PeerDiff } from '../diff.ts';
import type { ObservedPeer, PeerChange, WgDriver } from '../driver.ts';
import { checkNames } from './add.ts';
import { type Output, patience, printable } from './output.ts';
import { UsageError } from './usage-error.ts';

export interface SyncOptions {
  readonly desired: readonly DesiredPeer[];
  /** Show what would be done and do nothing. */
  readonly dryRun: boolean;
  /** Remove what the file does not name. Without it such peers are left alone. */
  readonly prune: boolean;
}

/**
 * Makes a host have what a file says: reads it, and changes only what differs.
 * @throws UsageError when something could not be done; the message says how much, the output what
 */
export async function syncPeers(driver: WgDriver, output: Output, options: SyncOptions): Promise<void> {
  const observed = await driver.list(patience());
  const desired = driver.keys === 'reported' ? withKeysOf(observed, options.desired) : checkKeys(options.desired);
  const { changes, conflicts, unchanged } = compare(observed, { ...options, desired });
  for (const change of changes) output.write(`${describe(change)}\n`);
  for (const { kind, tag } of conflicts) output.write(`! ${tag}: ${kind.replace('_', ' ')}\n`);
  if (options.dryRun) return void output.write(`${changes.length} changes to make\n`);
  // A host that makes the keys makes its changes one by one, the others take them in one go.
  const oneByOne = driver.keys === 'reported' ? changes.length : 0;
  const results = changes.length === 0 ? [] : await driver.apply(changes, patience(oneByOne));
  const failed = results.flatMap((result, at) => (result.outcome === 'applied' ? [] : [{ result, at }]));
  for (const { result, at } of failed) output.write(`! ${nameOf(changes[at])}: ${result.message}\n`);
  if (failed.length > 0) throw new UsageError(`${failed.length} of ${results.length} changes were not made`);
  if (conflicts.length > 0) throw new UsageError(`${conflicts.length} peers are in conflict with others`);
  output.write(`${results.length} changes made, ${unchanged} peers were right already\n`);
}

function checkKeys(desired: readonly DesiredPeer[]): readonly DesiredPeer[] {
  const keyless = desired.find(({ publicKey }) => publicKey === null);
  if (keyless === undefined) return desired;
  throw new UsageError(`this host does not make keys: ${keyless.tag} needs a public_key`);
}

/** A host that makes the keys knows a peer by its name; the file need not say more. */
function withKeysOf(observed: readonly ObservedPeer[], desired: readonly DesiredPeer[]): readonly DesiredPeer[] {
  const keyless = desired.flatMap(({ publicKey, tag }) => (publicKey === null ? tag : []));
  checkNames(observed, keyless);
  const keys = new Set(observed.map(({ publicKey }) => publicKey));
  const byName = new Map(observed.map((peer) => [peer.tag, peer]));
  return desired.map((peer) => {
    if (peer.publicKey === null) return { ...peer, ...keysOf(byName.get(peer.tag)) };
    if (keys.has(peer.publicKey)) return peer;
    throw new UsageError(`this host makes the keys itself: leave the public_key of ${peer.tag} out`);
  });
}

/** Without `prune` only what the file names is ours, and everything else on the host is somebody else's. */
function compare(observed: readonly ObservedPeer[], { desired, prune }: SyncOptions): PeerDiff {
  const keys = desired.flatMap(({ publicKey }) => publicKey ?? []);
  const ours = new Set(prune ? observed.map((peer) => peer.publicKey) : keys);
  const ourTags = new Set(desired.filter(({ publicKey }) => publicKey === null).map(({ tag }) => tag));
  return diffPeers({ desired, observed, ours, ourTags });
}

const SIGNS = { set: '+', suspend: '~', remove: '-' } as const;

function keysOf(peer: ObservedPeer | undefined) {
  return { publicKey: peer?.publicKey ?? null, presharedKey: peer?.presharedKey ?? null };
}

function nameOf(change: PeerChange | undefined): string {
  return printable(change?.tag ?? change?.publicKey ?? 'a peer');
}

function describe(change: PeerChange): string {
  const { type, tag, publicKey } = change;
  return `${SIGNS[type]} ${type} ${nameOf(change)} ${tag === null ? '' : (publicKey ?? '')}`.trimEnd();
}
