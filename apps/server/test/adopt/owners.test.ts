import { generateKeyPair, type ObservedPeer } from '@vpn-api/wg';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchOwners, ownerInName } from '../../src/cli/match-owners.ts';
import { parseOwners } from '../../src/cli/owners-file.ts';

const read = (text: string) => [...parseOwners(text)];

describe('a file of owners', () => {
  test('names one peer a line by its key or name, and its owner by e-mail, Telegram id or account', () => {
    const lines = [
      '# key or name, owner, device',
      '',
      'a=, Alice@Example.COM',
      '  phone of bob , 123456789 , iPhone  ',
      'c=,user:17,',
      '   ',
    ];
    const expected = [
      ['a=', { email: 'alice@example.com' }],
      ['phone of bob', { telegramId: 123456789, deviceName: 'iPhone' }],
      ['c=', { userId: 17 }],
    ];
    expect(read(lines.join('\n'))).toEqual(expected);
    expect(read(`\ufeff${lines.join('\r\n')}`)).toEqual(expected);
    expect(read('')).toEqual([]);
  });

  test('takes commas, quotes and a hash in front in double quotes', () => {
    expect(read('"#1, the ""old"" one" ,"a@example.com", "Desk, left"')).toEqual([
      ['#1, the "old" one', { email: 'a@example.com', deviceName: 'Desk, left' }],
    ]);
  });

  test.each([
    ['phone', 'say "public key or name'],
    [', a@example.com', 'say "public key or name'],
    ['phone,', 'say "public key or name'],
    ['phone, a@example.com, x, y', 'say "public key or name'],
    ['phone, alice', 'the owner is no e-mail'],
    ['phone, -5', 'the owner is no e-mail'],
    ['phone, 0', 'the owner is no e-mail'],
    ['phone, 1e9', 'the owner is no e-mail'],
    ['phone, 9999999999999999', 'the owner is no e-mail'],
    ['phone, user:0', 'the owner is no e-mail'],
    ['phone, user:9999999999', 'the owner is no e-mail'],
    ['phone, user:1 or 1=1', 'the owner is no e-mail'],
    ['phone, a@b', 'the owner is no e-mail'],
    ['phone, a@ex\u0430mple.com', 'the owner is no e-mail'],
    ['"phone, a@example.com', 'a double quote'],
    ['pho"ne, a@example.com', 'a double quote'],
    ['"phone"x, a@example.com', 'a double quote'],
    [`phone, a@example.com, ${'x'.repeat(65)}`, 'the device name'],
    ['phone, a@example.com, \u202egpj.exe', 'the device name'],
    ['phone, a@example.com, \u001b[2J', 'the device name'],
    ['ok, a@example.com\nok, b@example.com', 'line 2: this peer was named before'],
  ])('refuses %j, naming the line', (text, message) => {
    expect(() => parseOwners(`# first\n${text}`)).toThrow(/^line [23]: /);
    expect(() => parseOwners(text)).toThrow(message);
  });

  test('of any kind ends in owners or in a word about one line, soon, and changes no prototype', () => {
    const hostile = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^["#, \n\r__proto__@:.a1]*$/));
    fc.assert(
      fc.property(hostile, (text) => {
        try {
          for (const [peer, owner] of parseOwners(text)) {
            expect(peer).not.toBe('');
            expect(Object.keys(owner).length).toBeGreaterThan(0);
          }
        } catch (error) {
          expect(String(error)).toMatch(/^Error: line \d+: /);
        }
      }),
      { numRuns: 2_000 },
    );
    expect(read('__proto__, a@example.com\nconstructor, 12345')).toHaveLength(2);
    expect(({} as Record<string, unknown>).email).toBeUndefined();
    const start = performance.now();
    for (const text of ['"'.repeat(100_000), ','.repeat(100_000), '"a",'.repeat(50_000), `${' '.repeat(100_000)}"`]) {
      expect(() => parseOwners(text)).toThrow(/^line 1: /);
    }
    expect(performance.now() - start).toBeLessThan(5_000);
  });
});

describe('a name on a host', () => {
  test.each([
    ['alice@example.com', { email: 'alice@example.com' }],
    ['Alice@Example.com phone', { email: 'alice@example.com' }],
    ['phone (alice@example.com)', { email: 'alice@example.com' }],
    ['alice@example.com, ALICE@example.com', { email: 'alice@example.com' }],
    ['alice@example.com 123456789', { email: 'alice@example.com' }],
    ['123456789', { telegramId: 123456789 }],
    ['tg_123456789-laptop', { telegramId: 123456789 }],
    ['id 12345', { telegramId: 12345 }],
  ])('%j tells whose peer it is', (name, owner) => {
    expect(ownerInName(name)).toEqual(owner);
  });

  test.each([
    ...['', 'Alice phone', 'phone 2', 'wg0-1024', 'a@example.com b@example.com', '123456789 987654321', '@alice'],
    ...[
      '+79161234567',
      '79161234567',
      '+7916123456',
      '0012345',
      'x123456789',
      '123456789x',
      'alice@',
      'user:17',
      'constructor',
    ],
  ])('%j tells nothing', (name) => {
    expect(ownerInName(name)).toBeUndefined();
  });
});

describe('owners of the peers of a host', () => {
  const peer = (tag?: string): ObservedPeer => ({
    ...{ publicKey: generateKeyPair().publicKey, presharedKey: null, allowedIps: [], enabled: true, endpoint: null },
    ...{ lastHandshakeAt: null, rxBytes: 0, txBytes: 0 },
    ...(tag === undefined ? {} : { tag }),
  });

  test('come from the key in the file before the name in the file before the name itself', () => {
    const [byKey, byName, byItself, nameless] = [
      peer('a@example.com'),
      peer('b@example.com'),
      peer('c@example.com'),
      peer(),
    ];
    const owners = parseOwners(`${byKey.publicKey}, 11111, Desk\nb@example.com, 22222`);
    const found = matchOwners([byKey, byName, byItself, nameless], { owners, matchNames: true });
    expect([...found]).toEqual([
      [byKey.publicKey, { telegramId: 11111, deviceName: 'Desk' }],
      [byName.publicKey, { telegramId: 22222, deviceName: 'b@example.com' }],
      [byItself.publicKey, { email: 'c@example.com', deviceName: 'c@example.com' }],
    ]);
    expect(matchOwners([byItself], { owners, matchNames: false }).size).toBe(0);
  });

  test('are nobody for sure when several peers have the name in the file', () => {
    const twins = [peer('phone'), peer('phone')];
    const owners = parseOwners(`phone, 11111\n${twins[1]?.publicKey}, 22222`);
    expect([...matchOwners(twins, { owners, matchNames: true }).values()]).toEqual([
      'ambiguous',
      { telegramId: 22222, deviceName: 'phone' },
    ]);
  });
});
