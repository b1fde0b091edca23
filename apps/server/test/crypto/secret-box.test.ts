import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { keyFingerprint, type SealContext, SecretBox, SecretBoxError } from '../../src/crypto/secret-box.ts';

const key1 = { id: 'k1', key: new Uint8Array(32).fill(1) };
const key2 = { id: 'k2', key: new Uint8Array(32).fill(2) };
const context: SealContext = { column: 'peers.private_key', rowId: 7 };

test('what was sealed opens again, whatever the text', () => {
  const box = new SecretBox([key1]);
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.maxSafeInteger(), (text, rowId) => {
      const at: SealContext = { column: 'peers.private_key', rowId };
      expect(box.open(at, box.seal(at, text))).toBe(text);
    }),
  );
});

test('the text form names version and key, and shows nothing of the plain text', () => {
  const sealed = new SecretBox([key1]).seal(context, 'CANARY-plain');
  expect(sealed).toMatch(/^v1\.k1\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]+$/);
  expect(Buffer.from(sealed.split('.')[3] ?? '', 'base64url').toString('latin1')).not.toContain('CANARY');
});

test('the same text is sealed differently each time, by the random bytes that were passed in', () => {
  const box = new SecretBox([key1]);
  expect(box.seal(context, 'a')).not.toBe(box.seal(context, 'a'));
  const fixed = new SecretBox([key1], { bytes: (length) => new Uint8Array(length).fill(9) });
  expect(fixed.seal(context, 'a')).toBe(fixed.seal(context, 'a'));
});

describe('rotation', () => {
  test('the first key seals and every key opens', () => {
    const old = new SecretBox([key1]).seal(context, 'a');
    const rotated = new SecretBox([key2, key1]);
    expect(rotated.open(context, old)).toBe('a');
    expect(rotated.seal(context, 'a')).toMatch(/^v1\.k2\./);
  });

  test('what an earlier key sealed is known to be stale', () => {
    const rotated = new SecretBox([key2, key1]);
    expect(rotated.isStale(new SecretBox([key1]).seal(context, 'a'))).toBe(true);
    expect(rotated.isStale(rotated.seal(context, 'a'))).toBe(false);
  });

  test('a key that had no id keeps opening its values under any name', () => {
    const bare = { id: keyFingerprint(key1.key), key: key1.key };
    const sealed = new SecretBox([bare]).seal(context, 'a');
    expect(new SecretBox([key2, { id: 'old', key: key1.key }]).open(context, sealed)).toBe('a');
  });
});

describe('refusals all look alike', () => {
  const sealed = new SecretBox([key1]).seal(context, 'CANARY');
  const [version = '', id = '', nonce = '', body = ''] = sealed.split('.');
  const flipped = `${body.startsWith('A') ? 'B' : 'A'}${body.slice(1)}`;

  function refusal(box: SecretBox, at: SealContext, text: string): unknown {
    try {
      return box.open(at, text);
    } catch (error) {
      return error;
    }
  }

  const box = new SecretBox([key1]);
  test.each<readonly [string, SecretBox, SealContext, string]>([
    ['a value moved to another row', box, { ...context, rowId: 8 }, sealed],
    ['a value moved to another column', box, { ...context, column: 'peers.preshared_key' }, sealed],
    ['another key under the same id', new SecretBox([{ id: 'k1', key: key2.key }]), context, sealed],
    ['an unknown key id', new SecretBox([key2]), context, sealed],
    [
      'a key id that was rewritten',
      new SecretBox([key1, { id: 'k9', key: key1.key }]),
      context,
      sealed.replace('.k1.', '.k9.'),
    ],
    ['a changed byte', box, context, [version, id, nonce, flipped].join('.')],
    ['a cut text', box, context, sealed.slice(0, -4)],
    ['a body shorter than a tag', box, context, [version, id, nonce, 'AAAA'].join('.')],
    ['a short nonce', box, context, [version, id, 'AAAA', body].join('.')],
    ['another version', box, context, sealed.replace(/^v1/, 'v2')],
    ['a further part', box, context, `${sealed}.x`],
    ['another spelling of the same bytes', box, context, `${sealed}=`],
    ['plain text', box, context, 'CANARY'],
    ['nothing', box, context, ''],
    ['the name of an object property as key id', box, context, sealed.replace('.k1.', '.__proto__.')],
  ])('%s', (_name, withBox, at, text) => {
    const error = refusal(withBox, at, text);
    expect(error).toBeInstanceOf(SecretBoxError);
    expect((error as Error).message).toBe('a sealed value cannot be opened');
    expect((error as Error).cause).toBeUndefined();
  });
});

test.each([
  ['no key', []],
  ['a short key', [{ id: 'a', key: new Uint8Array(31) }]],
  ['a bad id', [{ id: 'a.b', key: key1.key }]],
  ['an id used twice', [key1, { ...key2, id: 'k1' }]],
])('a ring with %s is refused', (_name, keys) => {
  expect(() => new SecretBox(keys)).toThrow(RangeError);
});

test('a row id must be a whole number', () => {
  expect(() => new SecretBox([key1]).seal({ ...context, rowId: Number.NaN }, 'a')).toThrow(RangeError);
});

test('printing the box shows no key', () => {
  const printed = inspect(new SecretBox([key1]), { showHidden: true, depth: 10 });
  expect(printed).not.toContain('01 01');
});
