import type { ServerRow } from '@vpn-api/db';
import { generateKeyPair, generatePresharedKey, KeyError, type PublicKey, parsePublicKey } from '@vpn-api/wg';
import type { Config } from '../config/config.ts';
import { DomainError, invalidField } from '../domain/errors.ts';

/** The keys of one peer as they go into its row. Private and preshared keys are still in the clear. */
export interface PeerKeys {
  /** null until a host that makes the keys has told it. */
  readonly publicKey: PublicKey | null;
  readonly privateKey: string | null;
  readonly presharedKey: string | null;
  readonly origin: 'server' | 'client' | 'host';
  /** What the client sent, whether it was honoured or not: a repeat of the call is known by it. */
  readonly submitted: string | null;
}

/**
 * Keys by the policy of the host and the settings. The best private key is one the server never sees, so a submitted
 * public key is honoured; `WG_IGNORE_CLIENT_KEYS` is for an old app that submits a key nobody has the private half of.
 * @throws DomainError `client_key_required`, `client_keys_not_supported`
 */
export function chooseKeys(
  { wireguard }: Config,
  server: Pick<ServerRow, 'keys'>,
  submitted: PublicKey | null,
): PeerKeys {
  const isHonoured = submitted !== null && !wireguard.ignoreClientKeys;
  if (server.keys === 'reported') {
    if (isHonoured) throw new DomainError('client_keys_not_supported');
    return { publicKey: null, privateKey: null, presharedKey: null, origin: 'host', submitted };
  }
  if (isHonoured) {
    return { publicKey: submitted, privateKey: null, presharedKey: null, origin: 'client', submitted };
  }
  if (wireguard.keyPolicy === 'client') throw new DomainError('client_key_required');
  return { ...generateKeyPair(), presharedKey: generatePresharedKey(), origin: 'server', submitted };
}

/** @throws DomainError `validation_failed` */
export function readSubmittedKey(text: string | null | undefined): PublicKey | null {
  if (text == null) return null;
  try {
    return parsePublicKey(text);
  } catch (error) {
    if (error instanceof KeyError) throw invalidField('wg_public_key', 'is not a WireGuard public key');
    throw error;
  }
}
