import { generateKeyPair, generatePresharedKey, KeyError, type PublicKey, parsePublicKey } from '@vpn-api/wg';
import type { Config } from '../config/config.ts';
import { DomainError, invalidField } from '../domain/errors.ts';

/** The keys of one peer as they go into its row. Private and preshared keys are still in the clear. */
export interface PeerKeys {
  readonly publicKey: PublicKey;
  readonly privateKey: string | null;
  readonly presharedKey: string | null;
  readonly origin: 'server' | 'client';
  /** What the client sent, whether it was honoured or not: a repeat of the call is known by it. */
  readonly submitted: string | null;
}

/**
 * Keys by the configured policy. The best private key is one the server never sees, so a submitted public key is
 * honoured; `WG_IGNORE_CLIENT_KEYS` is for an old app that submits a key nobody has the private half of.
 * @throws DomainError `validation_failed`, `client_key_required`
 */
export function chooseKeys(config: Config, submitted: string | null | undefined): PeerKeys {
  const given = submitted == null ? null : readPublicKey(submitted);
  if (given !== null && !config.wireguard.ignoreClientKeys) {
    return { publicKey: given, privateKey: null, presharedKey: null, origin: 'client', submitted: given };
  }
  if (config.wireguard.keyPolicy === 'client') throw new DomainError('client_key_required');
  const pair = generateKeyPair();
  return { ...pair, presharedKey: generatePresharedKey(), origin: 'server', submitted: given };
}

function readPublicKey(text: string): PublicKey {
  try {
    return parsePublicKey(text);
  } catch (error) {
    if (error instanceof KeyError) throw invalidField('wg_public_key', 'is not a WireGuard public key');
    throw error;
  }
}
