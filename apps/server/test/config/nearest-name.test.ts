import fc from 'fast-check';
import { expect, test } from 'vitest';
import { editDistance, nearestName } from '../../src/config/nearest-name.ts';

test.each([
  ['', '', 0],
  ['abc', '', 3],
  ['kitten', 'sitting', 3],
  ['WG_ENDPONIT', 'WG_ENDPOINT', 1],
  ['WG_MTUU', 'WG_MTU', 1],
])('%s and %s are %d edits apart', (a, b, distance) => {
  expect(editDistance(a, b)).toBe(distance);
});

test('the distance is symmetric, and zero only for equal names', () => {
  const name = fc.string({ maxLength: 12 });
  fc.assert(
    fc.property(name, name, (a, b) => {
      expect(editDistance(a, b)).toBe(editDistance(b, a));
      expect(editDistance(a, b) === 0).toBe(a === b);
    }),
  );
});

test('the nearest name has the fewest edits', () => {
  expect(nearestName('WG_POL_V6', ['WG_MTU', 'WG_POOL_V4', 'WG_POOL_V6'])).toBe('WG_POOL_V6');
  expect(nearestName('X', [])).toBeUndefined();
});
