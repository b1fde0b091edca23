import { z } from 'zod';
import type { DesiredPeer } from '../diff.ts';
import { parsePresharedKey, parsePublicKey } from '../keys.ts';
import { singleHost } from './add.ts';
import { UsageError } from './usage-error.ts';

/** Turns a parser that throws into a check of zod's. */
function parsed<T>(parse: (text: string) => T, message: string) {
  return z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    }
  });
}

const peer = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9_.-]{1,32}$/, 'must be 1 to 32 letters, digits, "_", "." or "-"'),
  public_key: parsed(parsePublicKey, 'must be a WireGuard public key').optional(),
  preshared_key: parsed(parsePresharedKey, 'must be a WireGuard preshared key').optional(),
  addresses: z.array(parsed(singleHost, 'must be a single host, 10.8.0.14/32')).default([]),
  suspended: z.boolean().default(false),
});

const peersFile = z.strictObject({ peers: z.array(peer) });

/**
 * The peers that a file wants: `{ "peers": [{ "name", "public_key", "preshared_key"?, "addresses", "suspended"? }] }`.
 * For a host that makes the keys, a peer is its name alone.
 * @throws UsageError that names the first wrong place and never repeats a value
 */
export function readPeersFile(text: string): DesiredPeer[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new UsageError('the peers file is not JSON');
  }
  const result = peersFile.safeParse(json);
  if (result.success) return checkUnique(result.data.peers.map(desiredPeer));
  const [issue] = result.error.issues;
  throw new UsageError(`the peers file is wrong at ${issue?.path.join('.') || 'its root'}: ${issue?.message}`);
}

function checkUnique(peers: DesiredPeer[]): DesiredPeer[] {
  const names = new Set<string>();
  for (const { tag } of peers) {
    if (names.has(tag)) throw new UsageError(`the peers file has two peers called ${tag}`);
    names.add(tag);
  }
  return peers;
}

function desiredPeer({ name, public_key, preshared_key, addresses, suspended }: z.output<typeof peer>): DesiredPeer {
  return {
    tag: name,
    state: suspended ? 'suspended' : 'present',
    publicKey: public_key ?? null,
    presharedKey: preshared_key ?? null,
    addresses,
  };
}
