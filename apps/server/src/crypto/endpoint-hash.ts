import { hash, hkdfSync } from 'node:crypto';

/**
 * Makes what is kept of the address that a peer was last seen at: enough to know the same address again, not enough to
 * tell which it is or that two peers share it. There are few enough addresses to try all of them, hence a key; it is
 * derived from `SECRET_KEY`, so with another one every address counts as new once.
 *
 * Every pass over a host hashes thousands. SHA-3 with the key in front needs no second round, as SHA-2 would (HMAC).
 */
export function endpointHasher(secretKey: string): (peerId: number, endpoint: string) => string {
  const key = Buffer.from(hkdfSync('sha256', secretKey, '', 'vpn-api peer endpoint v1', 32)).toString('base64url');
  return (peerId, endpoint) => hash('sha3-256', `${key} ${peerId} ${endpoint}`, 'base64url');
}
