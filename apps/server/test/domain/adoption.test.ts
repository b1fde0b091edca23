import { describe, expect, test } from 'vitest';
import { addressPools } from '../../src/domain/address.ts';
import { placesOnHost } from '../../src/domain/adoption.ts';

const V6 = 'fd00:10::/112';
const pools = addressPools({ pool_v4: '10.8.0.0/24', pool_v6: null });
const both = addressPools({ pool_v4: '10.8.0.0/24', pool_v6: V6 });

/** The place of the first of some peers. */
function placeOf(allowedIps: readonly (readonly string[])[], chosen: typeof pools | null = pools) {
  const peers = allowedIps.map((addresses, index) => ({ publicKey: `key ${index}`, allowedIps: addresses }));
  return placesOnHost(peers, chosen).get('key 0');
}

describe('the place of a peer that a host has already', () => {
  test('is that of its own address in the pools, the same in both', () => {
    expect(placeOf([['10.8.0.7/32']])).toEqual({ address_index: 7, wg_ip: '10.8.0.7/32', wg_ip6: null });
    expect(placeOf([['10.8.0.7/32']], both)).toMatchObject({ address_index: 7, wg_ip6: null });
    expect(placeOf([['fd00:10::7/128', '10.8.0.7/32']], both)).toEqual({
      ...{ address_index: 7, wg_ip: '10.8.0.7/32', wg_ip6: 'fd00:10::7/128' },
    });
  });

  test('is wherever the host put it, where the host chooses', () => {
    expect(placeOf([['172.16.9.9/32', 'fd99::1/128']], null)).toEqual({
      ...{ address_index: null, wg_ip: '172.16.9.9/32', wg_ip6: 'fd99::1/128' },
    });
  });

  test.each([
    ['nothing', []],
    ['a range', ['10.8.0.0/28']],
    ['everything', ['0.0.0.0/0']],
    ['its own and a range', ['10.8.0.7/32', '192.168.1.0/24']],
    ['two of one family', ['10.8.0.7/32', '10.8.0.8/32']],
    ['an IPv6 address alone', ['fd00:10::7/128']],
    ['an address outside the pool', ['10.9.0.7/32']],
    ["the server's", ['10.8.0.1/32']],
    ['the broadcast address', ['10.8.0.255/32']],
    ['an IPv6 address where the server has none', ['10.8.0.7/32', 'fd00:10::7/128']],
    ['a text that is no address', ['10.8.0.7/32', '10.8.0.7/24\n']],
    ['an address in another notation', ['10.8.0.7']],
  ])('is none for %s', (_, allowedIps) => {
    expect(placeOf([allowedIps])).toBeUndefined();
  });

  test('is none for an IPv6 address that will be given to somebody else', () => {
    expect(placeOf([['10.8.0.7/32', 'fd00:10::8/128']], both)).toBeUndefined();
  });

  test.each([
    ['the same address', ['10.8.0.7/32']],
    ['the same address among others', ['10.8.0.9/32', '10.8.0.7/32']],
    ['a range around it', ['10.8.0.0/28']],
  ])('is none when another peer has %s', (_, other) => {
    expect(placeOf([['10.8.0.7/32'], other])).toBeUndefined();
  });

  test('is its own though another peer has a default route', () => {
    expect(placeOf([['10.8.0.7/32'], ['0.0.0.0/0']])).toMatchObject({ address_index: 7 });
  });
});
