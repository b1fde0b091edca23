import { describe, expect, test } from 'vitest';
import { generateKeyPair, generatePresharedKey } from '../../src/keys.ts';
import type { RemoteClient } from '../../src/wg-easy/protocol.ts';
import { readReport } from '../../src/wg-easy/read-report.ts';
import { hostileText } from '../hostile-text.ts';

const { privateKey, publicKey } = generateKeyPair();
const presharedKey = generatePresharedKey();
const server = generateKeyPair().publicKey;

const client: RemoteClient = {
  id: '1',
  name: 'phone',
  publicKey,
  addresses: ['10.8.0.2/32'],
  extraAddresses: [],
  enabled: true,
  isLive: true,
  endpoint: null,
  lastHandshakeAt: null,
  rxBytes: 0,
  txBytes: 0,
  createdAt: '',
};

/** As a v14 writes it. */
const config = (interfaceLines = '', address = '10.8.0.2/24', key: string = privateKey) =>
  `\n[Interface]\nPrivateKey = ${key}\nAddress = ${address}\nDNS = 1.1.1.1\n${interfaceLines}\n[Peer]\nPublicKey = ${server}\n` +
  `PresharedKey = ${presharedKey}\nAllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 0\nEndpoint = vpn.example.com:51820`;

describe('the report of a client', () => {
  test('holds single hosts, whatever prefix the configuration has', () => {
    expect(readReport(client, config())).toEqual({
      publicKey,
      privateKey,
      presharedKey,
      addresses: ['10.8.0.2/32'],
      config: config(),
    });
  });

  test('a client whose private key the host never had is reported without one', () => {
    expect(readReport(client, config('', '10.8.0.2/24', 'REPLACE_ME'))).toMatchObject({ publicKey, privateKey: null });
  });

  test.each([
    ['a private key of somebody else', config('', '10.8.0.2/24', generateKeyPair().privateKey)],
    ['an address that is not the listed one', config('', '10.8.0.3/24')],
    ['more addresses than listed', config('', '10.8.0.2/24, 10.8.0.3/32')],
    ['a command that runs as root', config('PostUp = touch /tmp/pwned\n')],
    ['a second peer', config('[Peer]\nAllowedIPs = 0.0.0.0/0\n')],
    ['no text to speak of', ''],
    ['a page', '<!DOCTYPE html>'],
  ])('a configuration with %s is refused', (_, text) => {
    expect(() => readReport(client, text)).toThrow(expect.objectContaining({ code: 'bad_client_config' }));
  });

  test('nothing gets in by any line, and no message repeats a secret', () => {
    for (const text of hostileText) {
      try {
        const { addresses } = readReport(client, config(`MTU = ${text}\n`));
        expect(addresses).toEqual(client.addresses);
      } catch (error) {
        expect(String(error)).not.toContain(privateKey);
        expect(String(error)).not.toContain(presharedKey);
      }
    }
  });
});
