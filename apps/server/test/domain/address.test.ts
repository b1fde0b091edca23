import { addressAt, cidrOverlaps, parseHostCidr, peerAddresses, SERVER_INDEX } from '@vpn-api/wg/address';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addressPools,
  chooseIndexAbove,
  chooseIndexInGaps,
  lastPeerIndex,
  requestedAddressIndex,
} from '../../src/domain/address.ts';

const small = addressPools({ pool_v4: '10.8.0.0/29', pool_v6: null });
const dual = addressPools({ pool_v4: '10.8.0.0/24', pool_v6: 'fd00:8::/120' });

const poolTexts = fc.oneof(
  fc.record({
    pool_v4: fc.constantFrom('10.8.0.0/28', '10.8.0.16/29', '10.8.0.0/30', '192.168.4.0/27'),
    pool_v6: fc.constantFrom(null, 'fd00:8::/64', 'fd00:8::/124', 'fd00:8::/126'),
  }),
);
const foreignRanges = fc.array(
  fc.oneof(
    fc.tuple(fc.nat({ max: 40 }), fc.integer({ min: 26, max: 32 })).map(([n, prefix]) => `10.8.0.${n}/${prefix}`),
    fc
      .tuple(fc.nat({ max: 40 }), fc.integer({ min: 121, max: 128 }))
      .map(([n, prefix]) => `fd00:8::${n.toString(16)}/${prefix}`),
    fc.constantFrom('0.0.0.0/0', '::/0', 'not an address', '192.168.4.9'),
  ),
  { maxLength: 4 },
);

interface Wanted {
  readonly pools: ReturnType<typeof addressPools>;
  readonly taken: readonly number[];
  readonly foreign: readonly string[];
}

/** As placing a peer does it: above the highest one taken, then in the gaps. */
function choose({ pools, taken, foreign }: Wanted): number | undefined {
  const highest = taken.length === 0 ? null : Math.max(...taken);
  return chooseIndexAbove(pools, highest, foreign) ?? chooseIndexInGaps(pools, gapsBetween(taken), foreign);
}

function gapsBetween(taken: readonly number[]) {
  const edges = [1, ...taken.toSorted((a, b) => a - b)];
  return edges
    .map((edge, i) => ({ from: edge + 1, to: edges[i + 1] === undefined ? null : (edges[i + 1] ?? 0) - 1 }))
    .filter(({ from, to }) => to === null || from <= to);
}

/** Whether a peer with this index would own an address of somebody else. */
function isForeign(pools: ReturnType<typeof addressPools>, index: number, foreign: readonly string[]): boolean {
  const own = peerAddresses(pools.v4, pools.v6, index);
  const ranges = foreign.filter((text) => /\d$/.test(text) && !text.endsWith('/0')).map(parseHostCidr);
  return [own.v4, own.v6]
    .filter((text) => text !== null)
    .some((text) => ranges.some((range) => cidrOverlaps(range, parseHostCidr(text))));
}

describe('a new address', () => {
  it('is never taken, foreign, the network, the broadcast or the server, and is found as long as there is one', () => {
    fc.assert(
      fc.property(
        poolTexts,
        foreignRanges,
        fc.uniqueArray(fc.integer({ min: 2, max: 30 })),
        (texts, foreign, taken) => {
          const pools = addressPools(texts);
          const index = choose({ pools, taken, foreign });
          const every = Array.from({ length: lastPeerIndex(pools) - 1 }, (_, i) => i + 2);
          const free = every.filter((candidate) => !taken.includes(candidate) && !isForeign(pools, candidate, foreign));
          if (index === undefined) expect(free).toEqual([]);
          else {
            expect(free).toContain(index);
            expect(index).not.toBe(SERVER_INDEX);
            expect(addressAt(pools.v4, index)).not.toBe(texts.pool_v4.split('/')[0]);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('is unique through any mixture of giving and taking back, and the pool is used to the last one', () => {
    fc.assert(
      fc.property(
        poolTexts,
        foreignRanges,
        fc.array(fc.option(fc.nat(), { freq: 3 }), { maxLength: 80 }),
        (texts, foreign, ops) => {
          const pools = addressPools(texts);
          const taken: number[] = [];
          for (const release of ops) {
            if (release !== null) {
              taken.splice(release % Math.max(1, taken.length), 1);
              continue;
            }
            const index = choose({ pools, taken, foreign });
            if (index === undefined) continue;
            expect(taken).not.toContain(index);
            taken.push(index);
          }
        },
      ),
    );
    const taken: number[] = [];
    for (let index = choose({ pools: small, taken, foreign: [] }); index !== undefined; ) {
      taken.push(index);
      index = choose({ pools: small, taken, foreign: [] });
    }
    expect(taken).toEqual([2, 3, 4, 5, 6]);
  });

  it('goes up before it fills gaps', () => {
    expect(choose({ pools: dual, taken: [2, 9], foreign: [] })).toBe(10);
    expect(choose({ pools: small, taken: [2, 4, 6], foreign: [] })).toBe(3);
  });

  it('steps over a foreign range of millions at once', () => {
    const wide = addressPools({ pool_v4: '10.0.0.0/8', pool_v6: null });
    expect(choose({ pools: wide, taken: [], foreign: ['10.0.0.0/9'] })).toBe(2 ** 23);
    expect(choose({ pools: wide, taken: [], foreign: ['10.0.0.0/7'] })).toBeUndefined();
    expect(choose({ pools: wide, taken: [], foreign: ['0.0.0.0/0'] })).toBe(2);
    expect(chooseIndexInGaps(wide, [{ from: 2, to: null }], ['10.0.0.0/9'])).toBe(2 ** 23);
  });
});

describe('an address somebody asks for', () => {
  it('is found in the pool', () => {
    expect(requestedAddressIndex('10.8.0.14', dual, [])).toBe(14);
    expect(requestedAddressIndex('10.8.0.14/32', dual, [])).toBe(14);
  });

  it.each([
    ['10.8.0.1', 'is the server'],
    ['10.8.0.0', 'is the network'],
    ['10.8.0.255', 'is the broadcast'],
    ['10.8.1.4', 'is outside'],
    ['10.8.0.14/24', 'is a range'],
    ['10.8.0.20', 'is foreign'],
    ['10.8.0.30', 'has a foreign twin'],
    ['fd00:8::e', 'is IPv6'],
    ['::ffff:10.8.0.14', 'is IPv4 in disguise'],
    ['10.8.0.014', 'has a leading zero'],
    ['10.8.0.14\nPostUp = id', 'is an injection'],
    ['', 'is nothing'],
  ])('is refused when it is %j, which %s', (address) => {
    const foreign = ['10.8.0.20/32', 'fd00:8::1e/128'];
    expect(requestedAddressIndex(address, dual, foreign)).toBeUndefined();
  });
});
