import { createHmac, hkdfSync } from 'node:crypto';

/**
 * Makes what is kept of the address that a peer was last seen at: enough to know the same address again, not enough to
 * tell which it is or that two peers share it. There are few enough addresses to try all of them, hence a key; it is
 * derived from `SECRET_KEY`, so with another one every address counts as new once.
 */
export function endpointHasher(secretKey: string): (peerId: number, endpoint: string) => string {
  const key = Buffer.from(hkdfSync('sha256', secretKey, '', 'vpn-api peer endpoint v1', 32));
  return (peerId, endpoint) => createHmac('sha256', key).update(`${peerId} ${endpoint}`).digest('base64url');
}
