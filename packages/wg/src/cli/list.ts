import type { ObservedPeer, WgDriver } from '../driver.ts';
import { type Output, patience, printable } from './output.ts';

/** One line a peer: name, key, addresses, state, last handshake, bytes. With `json`: an array, without preshared keys. */
export async function listPeers(driver: WgDriver, output: Output, { json }: { readonly json: boolean }): Promise<void> {
  const peers = await driver.list(patience());
  output.write(json ? `${JSON.stringify(peers.map(withoutSecrets), null, 2)}\n` : table(peers));
}

function withoutSecrets({ presharedKey: _, ...peer }: ObservedPeer) {
  return peer;
}

function table(peers: readonly ObservedPeer[]): string {
  const head = ['NAME', 'PUBLIC KEY', 'ADDRESSES', 'STATE', 'HANDSHAKE', 'RECEIVED', 'SENT'];
  const rows = peers.map((peer) => [
    peer.tag ?? '-',
    peer.publicKey,
    peer.allowedIps.join(',') || '-',
    peer.enabled ? 'on' : 'off',
    peer.lastHandshakeAt ?? 'never',
    String(peer.rxBytes),
    String(peer.txBytes),
  ]);
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => printable(row[column]).length)),
  );
  const line = (row: readonly string[]) =>
    row.map((cell, column) => printable(cell).padEnd(widths[column] ?? 0)).join('  ');
  return `${[head, ...rows].map((row) => line(row).trimEnd()).join('\n')}\n`;
}
