import { describe, expect, test } from 'vitest';
import { generateKeyPair } from '../src/keys.ts';
import { checkKeyName, parseGenerated } from '../src/shell/generated-keys.ts';
import { hostileText } from './hostile-text.ts';

const [one, two] = [generateKeyPair(), generateKeyPair()];

describe('the answer of a script that makes keys', () => {
  test('is read name by name, whatever else is printed between', () => {
    const text = [
      'NAME=a',
      'making keys ...',
      'PRIVATE=/etc/wg-keys/a.key',
      `PUBLIC=${one.publicKey}\r`,
      `KEY=${one.privateKey}`,
      'NAME=b',
      `PUBLIC=${two.publicKey}`,
      'KEY=',
      'NAME=c',
      '',
    ].join('\n');
    expect([...parseGenerated(text)]).toEqual([
      ['a', { publicKey: one.publicKey, privateKey: one.privateKey }],
      ['b', { publicKey: two.publicKey, privateKey: null }],
    ]);
  });

  test('cannot take back what it said first', () => {
    const text = `NAME=a\nPUBLIC=${one.publicKey}\nPRIVATE=${one.privateKey}\nPUBLIC=${two.publicKey}\nPRIVATE=${two.privateKey}\n`;
    expect(parseGenerated(text).get('a')).toEqual(one);
  });

  test('counts for nothing when it names somebody twice', () => {
    const answer = (name: string, { publicKey }: { publicKey: string }) => `NAME=${name}\nPUBLIC=${publicKey}\n`;
    for (const again of [answer('a', two), answer('a', two).repeat(2), 'NAME=a\n']) {
      const pairs = parseGenerated(answer('a', one) + answer('b', two) + again);
      expect([...pairs.keys()]).toEqual(['b']);
    }
  });

  test('is no pair when the keys do not belong together, or are none', () => {
    for (const text of [
      `NAME=a\nPUBLIC=${one.publicKey}\nPRIVATE=${two.privateKey}\n`,
      `NAME=a\nPUBLIC=${one.publicKey}\nPRIVATE=/a.key\nKEY=${two.privateKey}\n`,
      `NAME=a\nPRIVATE=${one.privateKey}\n`,
      `PUBLIC=${one.publicKey}\n`,
      ...hostileText.map((hostile) => `NAME=a\nPUBLIC=${hostile}\n`),
    ]) {
      expect(parseGenerated(text).size).toBe(0);
    }
  });
});

test('a name of a key file is plain: no option, no path, no hidden file', () => {
  for (const name of ['a', 'vpn-3.1', '_x', 'x'.repeat(32)]) expect(checkKeyName(name)).toBe(name);
  for (const name of ['', '-rf', '.hidden', 'a/b', '..', 'a b', 'a\n', 'x'.repeat(33)]) {
    expect(() => checkKeyName(name), name).toThrow(TypeError);
  }
});
