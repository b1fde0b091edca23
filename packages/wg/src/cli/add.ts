import { parseHostCidr, parsePool, parseSingleHost, printCidr } from '../address.ts';
import { parseClientConfig, parseDnsList, parseEndpoint, printClientConfig, printEndpoint } from '../client-config.ts';
import type { ChangeResult, ObservedPeer, ReportedPeer, WgDriver } from '../driver.ts';
import { generateKeyPair, generatePresharedKey, parsePublicKey } from '../keys.ts';
import { freeAddress } from './free-address.ts';
import { type Output, patience } from './output.ts';
import { UsageError } from './usage-error.ts';

export interface AddOptions {
  /** Names the peer on hosts that keep names. `[A-Za-z0-9_.-]{1,32}` */
  readonly name: string;
  /** The client keeps its private key: then no config is printed. */
  readonly publicKey?: string | undefined;
  /** `10.8.0.14/32`, or the pool to take the lowest free one from. */
  readonly address?: string | undefined;
  readonly pool?: string | undefined;
  /** `vpn.example.com:51820`: what the client config names. */
  readonly endpoint?: string | undefined;
  readonly dns: readonly string[];
}

const NAME = /^[A-Za-z0-9_.-]{1,32}$/;
const KEEPALIVE_SECONDS = 25;
const EVERYTHING = ['0.0.0.0/0', '::/0'];

/**
 * Puts one new peer on a host and prints its client config, which is nowhere else afterwards. Nothing is changed on the host
 * before it is certain that the config can be printed.
 * @throws UsageError, DriverError, ClientConfigError
 */
export async function addPeer(driver: WgDriver, output: Output, options: AddOptions): Promise<void> {
  if (!NAME.test(options.name)) throw new UsageError('a name is 1 to 32 letters, digits, "_", "." or "-"');
  const checked = {
    ...options,
    dns: options.dns.flatMap(parseDnsList),
    endpoint: options.endpoint === undefined ? undefined : printEndpoint(parseEndpoint(options.endpoint)),
  };
  const add = driver.keys === 'reported' ? addReported : addGiven;
  output.write(await add(driver, checked));
}

/**
 * The host makes the keys: its config is read and printed again, so that nothing in it runs on the client's machine. A peer
 * of this name that is there already is the one of an earlier try whose answer was lost.
 */
async function addReported(driver: WgDriver, options: AddOptions): Promise<string> {
  const { name, endpoint, dns } = options;
  if (options.publicKey !== undefined) {
    throw new UsageError('this host makes the keys itself: leave --public-key out');
  }
  if (options.pool !== undefined) throw new UsageError('this host chooses the address itself: leave --pool out');
  const addresses = options.address === undefined ? [] : [singleHost(options.address)];
  checkNames(await driver.list(patience()), [name]);
  const reported = await applyOne(driver, { type: 'set', publicKey: null, presharedKey: null, addresses, tag: name });
  const config = reported?.config == null ? undefined : parseClientConfig(reported.config);
  const named = endpoint ?? config?.endpoint;
  if (reported?.privateKey == null || named === undefined) return `added ${name}\n`;
  return printClientConfig({
    privateKey: reported.privateKey,
    addresses: reported.addresses,
    dns: dns.length > 0 ? dns : (config?.dns ?? []),
    mtu: config?.mtu ?? null,
    publicKey: config?.publicKey ?? (await driver.describe(patience())).publicKey,
    presharedKey: reported.presharedKey,
    allowedIps: config?.allowedIps ?? EVERYTHING,
    persistentKeepalive: config?.persistentKeepalive ?? KEEPALIVE_SECONDS,
    endpoint: named,
  });
}

/**
 * A driver takes a second client of a name for the twin that a lost answer left behind, and deletes it. Here names are what
 * people typed, and two may well be called the same.
 * @throws UsageError
 */
export function checkNames(observed: readonly ObservedPeer[], names: readonly string[]): void {
  const ambiguous = names.find((name) => observed.filter(({ tag }) => tag === name).length > 1);
  if (ambiguous === undefined) return;
  throw new UsageError(`several peers on the host are called ${ambiguous}: remove the wrong ones by their keys first`);
}

async function addGiven(driver: WgDriver, options: AddOptions): Promise<string> {
  const observed = await driver.list(patience());
  const address = chooseAddress(options, observed);
  const keys = options.publicKey === undefined ? generateKeyPair() : undefined;
  const publicKey = keys?.publicKey ?? parsePublicKey(options.publicKey ?? '');
  if (observed.some((peer) => peer.publicKey === publicKey)) throw new UsageError('the host has this key already');
  const presharedKey = keys === undefined ? null : generatePresharedKey();
  const { publicKey: serverKey } = await driver.describe(patience());
  const answer =
    keys === undefined || options.endpoint === undefined
      ? `added ${publicKey} as ${address}\n`
      : printClientConfig({
          privateKey: keys.privateKey,
          addresses: [address],
          dns: options.dns,
          mtu: null,
          publicKey: serverKey,
          presharedKey,
          allowedIps: EVERYTHING,
          persistentKeepalive: KEEPALIVE_SECONDS,
          endpoint: options.endpoint,
        });
  await applyOne(driver, { type: 'set', publicKey, presharedKey, addresses: [address], tag: options.name });
  return answer;
}

function chooseAddress({ address, pool, publicKey, endpoint }: AddOptions, observed: readonly ObservedPeer[]): string {
  if (publicKey === undefined && endpoint === undefined) {
    throw new UsageError(
      '--endpoint is needed for the client config, or --public-key when the client has its own keys',
    );
  }
  if (address === undefined && pool === undefined) throw new UsageError('--address or --pool is needed on this host');
  if (address === undefined) return freeAddress(parsePool(pool ?? ''), observed);
  const chosen = singleHost(address);
  if (observed.some((peer) => peer.allowedIps.includes(chosen))) throw new UsageError('another peer has this address');
  return chosen;
}

/** `10.8.0.14` and `10.8.0.14/32` are the same. */
export function singleHost(text: string): string {
  return printCidr(parseSingleHost(text.includes('/') ? text : printCidr(parseHostCidr(text))));
}

type Change = Parameters<WgDriver['apply']>[0][number];

/** @throws DriverError, UsageError when the host says no */
export async function applyOne(driver: WgDriver, change: Change): Promise<ReportedPeer | undefined> {
  const [result]: readonly (ChangeResult | undefined)[] = await driver.apply([change], patience());
  if (result?.outcome !== 'applied') throw new UsageError(`the host did not do it: ${result?.message ?? 'no answer'}`);
  return result.reported;
}
