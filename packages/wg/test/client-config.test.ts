import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ClientConfigError,
  type ClientConfigInput,
  PRIVATE_KEY_PLACEHOLDER,
  parseAllowedIps,
  parseClientConfig,
  parseDnsList,
  parseEndpoint,
  printClientConfig,
  printEndpoint,
} from '../src/client-config.ts';
import { generateKeyPair, generatePresharedKey } from '../src/keys.ts';
import { hostileText } from './hostile-text.ts';

const { privateKey } = generateKeyPair();
const { publicKey } = generateKeyPair();
const presharedKey = generatePresharedKey();

const good: ClientConfigInput = {
  privateKey,
  addresses: ['10.8.0.14/32', 'fd00::e/128'],
  dns: ['1.1.1.1', '2606:4700:4700::1111'],
  mtu: 1420,
  publicKey,
  presharedKey,
  allowedIps: ['0.0.0.0/0', '::/0'],
  persistentKeepalive: 25,
  endpoint: 'vpn.example.com:51820',
};

const text = `[Interface]
PrivateKey = ${privateKey}
Address = 10.8.0.14/32, fd00::e/128
DNS = 1.1.1.1, 2606:4700:4700::1111
MTU = 1420

[Peer]
PublicKey = ${publicKey}
PresharedKey = ${presharedKey}
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 25
Endpoint = vpn.example.com:51820
`;

describe('printing a client config', () => {
  test('it is the file wg-quick takes', () => {
    expect(printClientConfig(good)).toBe(text);
  });

  test('a client that keeps its key to itself gets a placeholder', () => {
    const printed = printClientConfig({ ...good, privateKey: null });
    expect(printed).toContain(`PrivateKey = ${PRIVATE_KEY_PLACEHOLDER}\n`);
    expect(parseClientConfig(printed).privateKey).toBeNull();
  });

  test('what is absent has no line', () => {
    const printed = printClientConfig({ ...good, dns: [], mtu: null, presharedKey: null, persistentKeepalive: 0 });
    expect(printed).not.toMatch(/DNS|MTU|PresharedKey|PersistentKeepalive/);
  });

  test('values are printed in their canonical form', () => {
    const printed = printClientConfig({
      ...good,
      allowedIps: ['2001:DB8:0:0::/64', '10.0.0.1'],
      endpoint: '[2001:DB8::0:1]:51820',
    });
    expect(printed).toContain('AllowedIPs = 2001:db8::/64, 10.0.0.1/32\n');
    expect(printed).toContain('Endpoint = [2001:db8::1]:51820\n');
  });

  test('an error names the field and not the value', () => {
    expect(() => printClientConfig({ ...good, privateKey: 'CANARY' })).toThrow(/^PrivateKey: (?!.*CANARY)/);
  });

  const newlines = ['\n', '\r', '\r\n', '\u0085', '\u2028', '\u2029', '\v', '\f', '\0'];
  const payloads = ['PostUp = touch /tmp/pwned', '[Peer]', 'PreDown = id', '#', 'Table = off', 'SaveConfig = true'];
  const parts = fc.constantFrom(
    ...newlines,
    ...payloads,
    '10.8.0.14/32',
    '1.1.1.1',
    publicKey,
    privateKey,
    'vpn.example.com',
    ':51820',
    ', ',
    '=',
    ' ',
    '[::1]',
    '$(id)',
    '`id`',
  );
  const spliced = fc.array(parts, { maxLength: 5 }).map((all) => all.join(''));
  const hostile = fc.oneof(fc.string({ unit: 'binary' }), spliced, fc.anything() as fc.Arbitrary<string>);
  const list = (valid: readonly string[]) =>
    fc.oneof(fc.constant(valid), fc.array(hostile, { maxLength: 3 }), hostile as unknown as fc.Arbitrary<string[]>);
  const number = fc.oneof(
    fc.constant(null),
    fc.integer({ min: 1280, max: 1500 }),
    fc.double(),
    hostile as unknown as fc.Arbitrary<number>,
  );
  const input: fc.Arbitrary<ClientConfigInput> = fc.record({
    privateKey: fc.oneof(fc.constant(privateKey), fc.constant(null), hostile),
    addresses: list(good.addresses),
    dns: list(good.dns),
    mtu: number,
    publicKey: fc.oneof({ weight: 4, arbitrary: fc.constant(publicKey as string) }, { weight: 1, arbitrary: hostile }),
    presharedKey: fc.oneof(fc.constant(presharedKey), fc.constant(null), hostile),
    allowedIps: list(good.allowedIps),
    persistentKeepalive: number,
    endpoint: fc.oneof(
      fc.constant(good.endpoint),
      hostile,
      hostile.map((host) => `${String(host)}:51820`),
    ),
  });

  test('hostile values are an error, or exactly one [Interface] and one [Peer] with known keys', () => {
    fc.assert(
      fc.property(fc.oneof(input, oneHostileField(hostile)), (values) => {
        const printed = attempt(() => printClientConfig(values));
        if (printed === undefined) return;
        // Split by everything that any reader of the file might take for the end of a line.
        const lines = printed.split(/[\n\r\v\f\0\u0085\u2028\u2029]/).filter((line) => line !== '');
        const sections = lines.filter((line) => line.includes('['));
        expect(sections.filter((line) => !/^Endpoint = \[[0-9a-f:]+\]:\d+$/.test(line))).toEqual([
          '[Interface]',
          '[Peer]',
        ]);
        const keys = lines.filter((line) => !/^\[\w+\]$/.test(line)).map((line) => line.split(' = ')[0]);
        expect(new Set(keys).size).toBe(keys.length);
        expect(ALLOWED).toEqual(expect.arrayContaining(keys));
        expect(printed).toMatch(/^[\n\x20-\x7e]*$/);
        expect(printClientConfig(parseClientConfig(printed))).toBe(printed);
      }),
      { numRuns: 2000 },
    );
  });
});

test('each hostile text in each field, alone and behind a good value: refused, or printed as one [Interface] and one [Peer]', () => {
  const fields = Object.keys(good) as (keyof ClientConfigInput)[];
  for (const field of fields) {
    for (const hostile of hostileText) {
      for (const value of [hostile, `${[good[field]].flat()[0]}${hostile}`]) {
        const input = { ...good, [field]: Array.isArray(good[field]) ? [value] : value } as ClientConfigInput;
        const printed = attempt(() => printClientConfig(input));
        if (printed === undefined) continue;
        const lines = printed.split(/[\n\r\v\f\0\u0085\u2028\u2029]/).filter((line) => line !== '');
        expect(lines.filter((line) => line.startsWith('['))).toEqual(['[Interface]', '[Peer]']);
        const keys = lines.filter((line) => !line.startsWith('[')).map((line) => line.split(' = ')[0]);
        expect(ALLOWED).toEqual(expect.arrayContaining(keys));
        expect(parseClientConfig(printed).addresses.length).toBeGreaterThan(0);
      }
    }
  }
});

const ALLOWED = [
  'PrivateKey',
  'Address',
  'DNS',
  'MTU',
  'PublicKey',
  'PresharedKey',
  'AllowedIPs',
  'PersistentKeepalive',
  'Endpoint',
];

/** With everything else valid, so that each field is really reached. */
function oneHostileField(hostile: fc.Arbitrary<string>): fc.Arbitrary<ClientConfigInput> {
  const field = fc.constantFrom('privateKey', 'presharedKey', 'endpoint', 'publicKey');
  const listField = fc.constantFrom('addresses', 'dns', 'allowedIps');
  return fc.oneof(
    fc.tuple(field, hostile).map(([name, value]) => ({ ...good, [name]: value })),
    fc
      .tuple(listField, fc.array(hostile, { minLength: 1, maxLength: 3 }))
      .map(([name, value]) => ({ ...good, [name]: value })),
  );
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    expect(error).toBeInstanceOf(ClientConfigError);
    return undefined;
  }
}

describe('reading a client config', () => {
  test('what was printed is read back', () => {
    expect(parseClientConfig(text)).toEqual(good);
  });

  test('the file a wg-easy host hands out is understood', () => {
    const issued = `\n[Interface]\nPrivateKey = ${privateKey}\nAddress = 10.8.0.2/24\nDNS = 1.1.1.1\n\n\n[Peer]\nPublicKey = ${publicKey}\nPresharedKey = ${presharedKey}\nAllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 0\nEndpoint = 203.0.113.5:51820`;
    expect(parseClientConfig(issued)).toMatchObject({
      addresses: ['10.8.0.2/24'],
      mtu: null,
      persistentKeepalive: null,
    });
  });

  test('comments, case, CRLF and repeated list keys are read as wg reads them', () => {
    const odd = text
      .replace('[Interface]', '# a comment\n[interface]')
      .replace('Address', 'ADDRESS')
      .replace(', ::/0', '\nAllowedIPs = ::/0 # all')
      .replaceAll('\n', '\r\n');
    expect(parseClientConfig(odd)).toEqual(good);
  });

  test.each([
    ['a hook', text.replace('MTU = 1420', 'PostUp = id')],
    ['a second peer', `${text}[Peer]\nPublicKey = ${publicKey}\n`],
    ['no peer', text.slice(0, text.indexOf('[Peer]'))],
    ['a key before any section', `MTU = 1420\n${text}`],
    ['a key of the other section', `${text}MTU = 1420\n`],
    ['a key given twice', `${text}Endpoint = evil.example:1\n`],
    ['a line without =', `${text}PostUp\n`],
    ['a lone carriage return', text.replace('1420\n', '1420\rPostUp = id\n')],
    ['a line separator', text.replace('1420\n', '1420\u2028PostUp = id\n')],
    ['a prototype key', text.replace('MTU = 1420', '__proto__ = 1')],
    ['a huge file', text + '#'.repeat(70_000)],
    ['nothing', ''],
  ])('%s is refused', (_, hostile) => {
    expect(() => parseClientConfig(hostile)).toThrow(ClientConfigError);
  });
});

describe('endpoints and lists', () => {
  test.each([
    ['VPN.Example.com:51820', 'vpn.example.com', 51820],
    ['203.0.113.5:1', '203.0.113.5', 1],
    ['[2001:DB8::1]:65535', '2001:db8::1', 65535],
    ['host:51820', 'host', 51820],
    ['xn--80ak6aa92e.com:443', 'xn--80ak6aa92e.com', 443],
  ])('%s is host %s, port %s', (endpoint, host, port) => {
    expect(parseEndpoint(endpoint)).toEqual({ host, port });
    expect(parseEndpoint(printEndpoint({ host, port }))).toEqual({ host, port });
  });

  test.each([
    '',
    'host',
    'host:',
    ':1',
    'host:0',
    'host:65536',
    'host:01',
    'a b:1',
    '-a.com:1',
    'a-.com:1',
    'a..b:1',
    'a.:1',
    '127.1:1',
    '0x7f000001:1',
    'a.0x1:1',
    '1.2.3.400:1',
    '2001:db8::1:51820',
    '[::1]',
    '[1.2.3.4]:1',
    '[::ffff:1.2.3.4]:1',
    'host:1\nPostUp = id',
    'höst:1',
    `${'a'.repeat(64)}.com:1`,
  ])('%j is no endpoint', (endpoint) => {
    expect(() => parseEndpoint(endpoint)).toThrow(ClientConfigError);
  });

  test('lists are split at commas, and every item is read strictly', () => {
    expect(parseDnsList('')).toEqual([]);
    expect(parseDnsList('1.1.1.1 , 2606:4700:4700:0::1111')).toEqual(['1.1.1.1', '2606:4700:4700::1111']);
    expect(parseAllowedIps('10.0.0.1,::/0')).toEqual(['10.0.0.1/32', '::/0']);
    for (const dns of ['dns.example', '1.1.1.1,', '1.1.1.1\n', '1.1.1.1/32'])
      expect(() => parseDnsList(dns)).toThrow(ClientConfigError);
    for (const ips of ['', '10.8.0.5/24', '0.0.0.0/0,', '0.0.0.0/0\n'])
      expect(() => parseAllowedIps(ips)).toThrow(ClientConfigError);
  });
});
