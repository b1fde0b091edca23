import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ClientConfigError,
  type ClientConfigInput,
  parseClientConfig,
  printClientConfig,
} from '../src/client-config.ts';
import { generateKeyPair } from '../src/keys.ts';
import { checkProtocolParams, type ProtocolParams, protocolKeys } from '../src/protocol-params.ts';
import { hostileText } from './hostile-text.ts';

const params = {
  ...{ Jc: 4, Jmin: 40, Jmax: 70, S1: 20, S2: 30, S3: 5, S4: 7 },
  ...{ H1: 1_148_377_231, H2: '100-200', H3: 4_294_967_295, H4: 5 },
  ...{ I1: '<b 0xf6ab3267fa><c><t><r 16>', J1: '<rc 8><rd 4>', Itime: 120 },
} as const;

const config: ClientConfigInput = {
  privateKey: generateKeyPair().privateKey,
  addresses: ['10.8.0.14/32'],
  dns: ['1.1.1.1'],
  mtu: 1280,
  publicKey: generateKeyPair().publicKey,
  presharedKey: null,
  allowedIps: ['0.0.0.0/0'],
  persistentKeepalive: 25,
  endpoint: 'vpn.example.com:51820',
  protocol: 'amneziawg',
  protocolParams: params,
};

function refused(work: () => unknown): boolean {
  try {
    work();
    return false;
  } catch (error) {
    expect(error).toBeInstanceOf(ClientConfigError);
    return true;
  }
}

describe('an AmneziaWG config', () => {
  test('has its parameters in [Interface], and is read back as it was', () => {
    const printed = printClientConfig(config);
    expect(printed.split('[Peer]')[0]).toContain(
      'MTU = 1280\nJc = 4\nJmin = 40\nJmax = 70\nS1 = 20\nS2 = 30\nS3 = 5\nS4 = 7\nH1 = 1148377231\nH2 = 100-200\n',
    );
    expect(parseClientConfig(printed, 'amneziawg')).toEqual(config);
    expect(printClientConfig(parseClientConfig(printed, 'amneziawg'))).toBe(printed);
  });

  test('is refused by whoever expects plain WireGuard', () => {
    expect(refused(() => parseClientConfig(printClientConfig(config)))).toBe(true);
    expect(refused(() => printClientConfig({ ...config, protocol: 'wireguard' }))).toBe(true);
    expect(refused(() => printClientConfig({ ...config, protocol: 'openvpn' as 'wireguard' }))).toBe(true);
  });

  test('without parameters is the WireGuard file', () => {
    const plain = { ...config, protocol: undefined, protocolParams: undefined };
    expect(printClientConfig({ ...config, protocolParams: {} })).toBe(printClientConfig(plain));
  });
});

describe('parameters', () => {
  test.each<[string, ProtocolParams]>([
    ['a key of wg-quick', { PostUp: 'id' }],
    ['a key in another case', { jc: 4 }],
    ['a fraction', { Jc: 1.5 }],
    ['more junk packets than any host sends', { Jc: 129 }],
    ['a negative number', { S1: -1 }],
    ['junk that ends before it begins', { Jmin: 50, Jmax: 40 }],
    ['handshakes of one size', { S1: 10, S2: 66 }],
    ['a type that two messages share', { H1: 7, H2: 7 }],
    ['ranges that overlap', { H1: '5-10', H2: '10-20' }],
    ['a falling range', { H1: '10-5' }],
    ['a number that no packet can hold', { H1: 4_294_967_296 }],
    ['a template with an unknown part', { I1: '<x 1>' }],
    ['half a byte', { I1: '<b 0xabc>' }],
    ['an empty template', { I1: '' }],
    ['a template that goes on behind its end', { I1: '<c>\nPostUp = id' }],
    ['a template with a comment', { I1: '<c> # x' }],
  ])('%s is refused', (_name, bad) => {
    expect(refused(() => checkProtocolParams('amneziawg', bad))).toBe(true);
  });

  test('none at all go with plain WireGuard', () => {
    expect(checkProtocolParams('wireguard', {})).toEqual({});
    expect(refused(() => checkProtocolParams('wireguard', { Jc: 4 }))).toBe(true);
  });

  test('an error names the key and not the value', () => {
    expect(() => checkProtocolParams('amneziawg', { I1: 'CANARY' })).toThrow(/^I1: (?!.*CANARY)/);
  });

  test('keys that objects are born with are none of ours', () => {
    expect(refused(() => checkProtocolParams('amneziawg', JSON.parse('{"__proto__": 1}')))).toBe(true);
    expect(refused(() => checkProtocolParams('amneziawg', { constructor: 1 }))).toBe(true);
    for (const odd of [null, [], 'Jc', 4, undefined])
      expect(refused(() => checkProtocolParams('amneziawg', odd))).toBe(true);
  });

  const keys = protocolKeys('amneziawg');
  const ALLOWED = [
    ...keys,
    ...['PrivateKey', 'Address', 'DNS', 'MTU', 'PublicKey', 'AllowedIPs', 'PersistentKeepalive', 'Endpoint'],
  ];

  function expectOneOfEach(printed: string): void {
    const lines = printed.split(/[\n\r\v\f\0\u0085\u2028\u2029]/).filter((line) => line !== '');
    expect(lines.filter((line) => line.startsWith('['))).toEqual(['[Interface]', '[Peer]']);
    const names = lines.filter((line) => !line.startsWith('[')).map((line) => line.split(' = ')[0]);
    expect(new Set(names).size).toBe(names.length);
    expect(ALLOWED).toEqual(expect.arrayContaining(names));
    expect(printed).toMatch(/^[\n\x20-\x7e]*$/);
    expect(printClientConfig(parseClientConfig(printed, 'amneziawg'))).toBe(printed);
  }

  test('each hostile text in each of them: refused, or printed as one [Interface] and one [Peer]', () => {
    for (const key of keys) {
      for (const hostile of hostileText) {
        for (const value of [hostile, `1${hostile}`, `<c>${hostile}`]) {
          const input = { ...config, protocolParams: { [key]: value } };
          if (!refused(() => printClientConfig(input))) expectOneOfEach(printClientConfig(input));
        }
      }
    }
  });

  test('anything at all: refused, or printed as one [Interface] and one [Peer]', () => {
    const key = fc.oneof(fc.constantFrom(...keys), fc.string());
    const part = fc.constantFrom('<c>', '<t>', '<r 5>', '<b 0xff>', '\n', '1', '-', ' ', 'PostUp = id', '#', '\u2028');
    const text = fc.array(part, { maxLength: 4 }).map((parts) => parts.join(''));
    const value = fc.oneof(text, fc.nat(), fc.anything() as fc.Arbitrary<string>);
    fc.assert(
      fc.property(fc.dictionary(key, value, { maxKeys: 4 }), (protocolParams) => {
        const input = { ...config, protocolParams };
        if (!refused(() => printClientConfig(input))) expectOneOfEach(printClientConfig(input));
      }),
      { numRuns: 2000 },
    );
  });
});
