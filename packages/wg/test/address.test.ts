import { isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  AddressError,
  addressAt,
  cidrContains,
  cidrOverlaps,
  indexOf,
  parseAddress,
  parseCidr,
  parseHostCidr,
  parsePool,
  parseSingleHost,
  peerAddresses,
  poolCapacity,
  printAddress,
  printCidr,
  serverAddress,
} from '../src/address.ts';

const print = (text: string) => printAddress(parseAddress(text));

describe('addresses', () => {
  test.each([
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['10.8.0.14', '10.8.0.14'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0db8::0001:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['0:0:1:0:0:0:1:0', '0:0:1::1:0'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['fe80::ffff:ffff', 'fe80::ffff:ffff'],
  ])('%s is printed as RFC 5952 wants: %s', (text, printed) => {
    expect(print(text)).toBe(printed);
  });

  test.each([
    '',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '1.2.3.0x4',
    '1.2.3.256',
    '1.2.3.4 ',
    '1.2.3.-4',
    '1.2.3.٣',
    '1e1.2.3.4',
    '16909060',
    ':',
    ':::',
    '1:::2',
    '::1::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1::2:3:4:5:6:7:8',
    '12345::',
    'g::',
    '::1%eth0',
    '::ffff:10.8.0.1',
    '::ffff:a08:1',
    '0:0:0:0:0:ffff:1:2',
    '::1.2.3.4',
    '[::1]',
    '1.2.3.4/32',
    '1:2:3:4:5:6:7:',
    ':1:2:3:4:5:6:7',
  ])('%j is no address', (text) => {
    expect(() => parseAddress(text)).toThrow(AddressError);
  });

  test('what is printed is read back as the same address', () => {
    const value = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).filter((v) => v >> 32n !== 0xffffn);
    fc.assert(
      fc.property(value, fc.integer({ min: 0, max: 2 ** 32 - 1 }), (v6, v4) => {
        expect(parseAddress(printAddress({ family: 6, value: v6 }))).toEqual({ family: 6, value: v6 });
        expect(parseAddress(printAddress({ family: 4, value: v4 }))).toEqual({ family: 4, value: v4 });
      }),
    );
  });

  test('every IPv6 text agrees with the platform', () => {
    fc.assert(
      fc.property(fc.ipV6(), (text) => {
        fc.pre(!text.includes('.') && !/^(?:0{0,4}:)*:?ffff:[^:]*:[^:]*$/i.test(text));
        const host = new URL(`http://[${text}]`).hostname.slice(1, -1);
        expect(print(text)).toBe(host);
      }),
    );
  });

  test('hostile text is an AddressError or an address the platform knows', () => {
    const text = fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-fA-F:.]{1,45}$/), fc.ipV4Extended());
    fc.assert(
      fc.property(text, (hostile) => {
        try {
          parseAddress(hostile);
        } catch (error) {
          expect(error).toBeInstanceOf(AddressError);
          return;
        }
        expect(isIP(hostile)).not.toBe(0);
      }),
    );
  });
});

describe('CIDRs', () => {
  test('a network with host bits is refused, an interface address may have them', () => {
    expect(() => parseCidr('10.8.0.5/24')).toThrow(AddressError);
    expect(() => parseCidr('fd00::5/64')).toThrow(AddressError);
    expect(printCidr(parseHostCidr('10.8.0.5/24'))).toBe('10.8.0.5/24');
    expect(printCidr(parseHostCidr('FD00::5'))).toBe('fd00::5/128');
  });

  test.each(['10.8.0.0', '10.8.0.0/', '10.8.0.0/33', '10.8.0.0/024', '10.8.0.0/+8', '::/129', '10.8.0.0/8/8'])(
    '%j is no CIDR',
    (text) => {
      expect(() => parseCidr(text)).toThrow(AddressError);
    },
  );

  test('a single host is a /32 or a /128 and nothing wider', () => {
    expect(printCidr(parseSingleHost('10.8.0.5/32'))).toBe('10.8.0.5/32');
    expect(printCidr(parseSingleHost('fd00::5/128'))).toBe('fd00::5/128');
    for (const text of ['10.8.0.5', '10.8.0.5/24', '0.0.0.0/0', 'fd00::/64', 'fd00::5/32']) {
      expect(() => parseSingleHost(text)).toThrow(AddressError);
    }
  });

  test.each([
    ['10.0.0.0/8', '10.8.0.0/24', true, true],
    ['10.8.0.0/24', '10.0.0.0/8', false, true],
    ['0.0.0.0/0', '255.255.255.255/32', true, true],
    ['10.8.0.0/24', '10.8.1.0/24', false, false],
    ['::/0', 'fd00::/64', true, true],
    ['fd00::/64', 'fd00:0:0:1::/64', false, false],
    ['0.0.0.0/0', '::/0', false, false],
    ['128.0.0.0/1', '192.168.0.0/16', true, true],
  ])('%s and %s: contains %s, overlaps %s', (outer, inner, contains, overlaps) => {
    expect(cidrContains(parseCidr(outer), parseCidr(inner))).toBe(contains);
    expect(cidrOverlaps(parseCidr(outer), parseCidr(inner))).toBe(overlaps);
    expect(cidrOverlaps(parseCidr(inner), parseCidr(outer))).toBe(overlaps);
  });
});

describe('pools', () => {
  test('a /24 numbers 253 peers, neither network, broadcast nor the server among them', () => {
    const pool = parsePool('10.8.0.0/24');
    expect(poolCapacity(pool)).toBe(253);
    expect(serverAddress(pool)).toBe('10.8.0.1/24');
    expect(addressAt(pool, 2)).toBe('10.8.0.2');
    expect(addressAt(pool, 254)).toBe('10.8.0.254');
    for (const index of [0, 255, 1.5, -1, Number.NaN]) expect(() => addressAt(pool, index)).toThrow(AddressError);
    expect(['10.8.0.0', '10.8.0.255', '10.8.1.1', 'fd00::1'].map((a) => indexOf(pool, a))).toEqual([
      null,
      null,
      null,
      null,
    ]);
  });

  test('both addresses of a peer come from one index', () => {
    const [v4, v6] = [parsePool('10.8.0.0/24'), parsePool('fd00::/64')];
    expect(peerAddresses(v4, v6, 14)).toEqual({ v4: '10.8.0.14/32', v6: 'fd00::e/128' });
    expect(peerAddresses(v4, null, 14)).toEqual({ v4: '10.8.0.14/32', v6: null });
    expect(() => peerAddresses(v4, v6, 1)).toThrow(AddressError);
    expect(() => peerAddresses(v4, v6, 255)).toThrow(AddressError);
  });

  test('the sizes at the edges are right', () => {
    expect(poolCapacity(parsePool('10.0.0.0/8'))).toBe(2 ** 24 - 3);
    expect(poolCapacity(parsePool('10.0.0.0/30'))).toBe(1);
    expect(poolCapacity(parsePool('fd00::/126'))).toBe(2);
    expect(poolCapacity(parsePool('fd00::/64'))).toBe(2 ** 31 - 2);
  });

  test.each([
    '10.8.0.0/31',
    '0.0.0.0/0',
    '10.8.0.1/24',
    '127.0.0.0/8',
    '224.0.0.0/24',
    '169.254.0.0/16',
    '::/64',
    'fe80::/64',
    'ff00::/64',
    'fd00::/32',
    'x',
  ])('%j is no pool', (text) => {
    expect(() => parsePool(text)).toThrow(AddressError);
  });

  test("index and address are each other's inverse", () => {
    const pools = ['10.8.0.0/24', '100.64.0.0/10', '192.168.255.0/28', 'fd00:1:2:3::/64', 'fd00::/120'].map(parsePool);
    fc.assert(
      fc.property(fc.constantFrom(...pools), fc.nat(), (pool, n) => {
        const index = 1 + (n % pool.lastIndex);
        expect(indexOf(pool, addressAt(pool, index))).toBe(index);
        expect(cidrContains(pool, parseHostCidr(addressAt(pool, index)))).toBe(true);
      }),
    );
  });
});
