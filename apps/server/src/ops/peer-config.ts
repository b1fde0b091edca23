import { findServer, type PeerRow } from '@vpn-api/db';
import { type ProtocolParams, parseAllowedIps, parseDnsList, printClientConfig } from '@vpn-api/wg';
import type { SealContext } from '../crypto/secret-box.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';

/**
 * The wg-quick file of a peer. With `template` a key that only the client has is left as a placeholder.
 * @throws DomainError `peer_pending` while the host has not told its keys, `config_not_found` when the host's key or endpoint is not known yet, `private_key_not_stored`
 */
export async function peerConfigText(
  { store, secretBox }: Pick<Services, 'store' | 'secretBox'>,
  peer: PeerRow,
  { template }: { readonly template: boolean },
): Promise<string> {
  if (peer.public_key === null) throw new DomainError('peer_pending', { retryAfterSeconds: 2 });
  const server = await findServer(store, peer.server_id);
  if (server?.public_key == null || server.endpoint === null) throw new DomainError('config_not_found');
  const unseal = (column: SealContext['column'], text: string | null) =>
    text === null ? null : secretBox.open({ column, rowId: peer.id }, text);
  const privateKey = unseal('peers.private_key', peer.private_key_sealed);
  if (privateKey === null && !template) throw new DomainError('private_key_not_stored');
  return printClientConfig({
    privateKey,
    addresses: [peer.wg_ip, peer.wg_ip6].filter((address) => address !== null),
    dns: parseDnsList(server.dns ?? ''),
    mtu: server.mtu,
    publicKey: server.public_key,
    presharedKey: unseal('peers.preshared_key', peer.preshared_key_sealed),
    allowedIps: parseAllowedIps(peer.allowed_ips),
    persistentKeepalive: server.keepalive,
    endpoint: server.endpoint,
    protocol: server.protocol,
    protocolParams: JSON.parse(server.protocol_params) as ProtocolParams,
  });
}
