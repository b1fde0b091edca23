import { parseHostCidr, parseSingleHost, printAddress } from '../address.ts';
import { ClientConfigError, PRIVATE_KEY_PLACEHOLDER, parseClientConfig } from '../client-config.ts';
import type { ReportedPeer } from '../driver.ts';
import { derivePublicKey } from '../keys.ts';
import type { RemoteClient } from './protocol.ts';

/** v14 writes this for a client whose private key it never had. */
const NO_PRIVATE_KEY = /^PrivateKey = REPLACE_ME$/m;

/**
 * What the host made, from the configuration it writes for the client. Read as strictly as any: a line that our own
 * configs do not have is refused.
 * @throws ClientConfigError, AddressError
 */
export function readReport(client: RemoteClient, config: string): ReportedPeer {
  const { addresses, privateKey, presharedKey } = parseClientConfig(
    config.replace(NO_PRIVATE_KEY, `PrivateKey = ${PRIVATE_KEY_PLACEHOLDER}`),
  );
  if (privateKey !== null && derivePublicKey(privateKey) !== client.publicKey) {
    throw new ClientConfigError('PrivateKey', 'it is not the key of this client');
  }
  // v14 writes the prefix of the pool. What is the client's own is the one address.
  const hosts = new Set(client.addresses.map((address) => printAddress(parseSingleHost(address))));
  const written = addresses.map((address) => printAddress(parseHostCidr(address)));
  if (written.length !== hosts.size || !written.every((host) => hosts.has(host))) {
    throw new ClientConfigError('Address', 'it is not what the list of clients says');
  }
  return { publicKey: client.publicKey, privateKey, presharedKey, addresses: client.addresses, config };
}
