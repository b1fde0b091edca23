import { type DesiredPeer, diffPeers, type PeerDiff } from '../diff.ts';
import type { ObservedPeer, PeerChange, WgDriver } from '../driver.ts';
import { type Output, patience } from './output.ts';
import { UsageError } from './usage-error.ts';

export interface SyncOptions {
  readonly desired: readonly DesiredPeer[];
  /** Show what would be done and do nothing. */
  readonly dryRun: boolean;
  /** Remove what the file does not name. Without it such peers are left alone. */
  readonly prune: boolean;
}

/**
 * Makes a host have what a file says: reads it, changes only what differs, reads it again.
 * @throws UsageError when something could not be done; the message says how much
 */
export async function syncPeers(driver: WgDriver, output: Output, options: SyncOptions): Promise<void> {
  const diff = compare(await driver.list(patience()), options);
  for (const change of diff.changes) output.write(`${describe(change)}\n`);
  for (const { kind, tag } of diff.conflicts) output.write(`! ${tag}: ${kind.replace('_', ' ')}\n`);
  if (options.dryRun) return void output.write(`${diff.changes.length} changes to make\n`);
  const results = diff.changes.length === 0 ? [] : await driver.apply(diff.changes, patience());
  const failed = results.filter((result) => result.outcome !== 'applied').length;
  if (failed > 0) throw new UsageError(`${failed} of ${results.length} changes were not made; run it again`);
  if (diff.conflicts.length > 0) throw new UsageError(`${diff.conflicts.length} peers are in conflict with others`);
  output.write(`${results.length} changes made, ${diff.unchanged} peers were right already\n`);
}

/** Without `prune` only what the file names is ours, and everything else on the host is somebody else's. */
function compare(observed: readonly ObservedPeer[], { desired, prune }: SyncOptions): PeerDiff {
  const keys = desired.flatMap(({ publicKey }) => publicKey ?? []);
  const ours = new Set(prune ? observed.map((peer) => peer.publicKey) : keys);
  const ourTags = new Set(desired.filter(({ publicKey }) => publicKey === null).map(({ tag }) => tag));
  return diffPeers({ desired, observed, ours, ourTags });
}

const SIGNS = { set: '+', suspend: '~', remove: '-' } as const;

function describe({ type, tag, publicKey }: PeerChange): string {
  return `${SIGNS[type]} ${type} ${tag ?? publicKey} ${tag === null ? '' : (publicKey ?? '')}`.trimEnd();
}
