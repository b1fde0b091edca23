import { describe, expect, test } from 'vitest';
import { parseClientConfig } from '../../src/client-config.ts';
import { type ChangeResult, DriverError, type PeerChange, type ReportedPeer, type SetPeer } from '../../src/driver.ts';
import { derivePublicKey, generateKeyPair, type PublicKey } from '../../src/keys.ts';
import { openWgEasyDriver, type WgEasyDriver } from '../../src/wg-easy/wg-easy-driver.ts';
import { hostileText } from '../hostile-text.ts';
import { openStub } from './open-stub.ts';
import type { WgEasyFault, WgEasyStub } from './stub.ts';

const signal = () => AbortSignal.timeout(20_000);
const wish = (tag: string, more: Partial<SetPeer> = {}): SetPeer => ({
  type: 'set',
  tag,
  publicKey: null,
  presharedKey: null,
  addresses: [],
  ...more,
});
const isChange = ({ method, path }: { method: string; path: string }) => method !== 'GET' && path.includes('/client');
const creates = (stub: WgEasyStub) =>
  stub.mutations().filter(({ method, path }) => method === 'POST' && path.endsWith('/client'));
const isList = ({ method, path }: { method: string; path: string }) => method === 'GET' && path.endsWith('/client');

async function applyOne(driver: WgEasyDriver, change: PeerChange): Promise<ChangeResult> {
  const [result] = await driver.apply([change], signal());
  return result as ChangeResult;
}

async function reportOf(driver: WgEasyDriver, change: SetPeer): Promise<ReportedPeer> {
  const result = await applyOne(driver, change);
  if (result.outcome !== 'applied' || result.reported === undefined) throw new Error(JSON.stringify(result));
  return result.reported;
}

describe.each([14, 15] as const)('wg-easy %i', (version) => {
  const loginPath = version === 14 ? '/api/session' : '/api/auth/password';
  const logins = (stub: { requests: readonly { method: string; path: string }[] }) =>
    stub.requests.filter(({ method, path }) => method === 'POST' && path === loginPath).length;

  describe('logging in', () => {
    test('the version is asked once and the login made once, also by calls at the same time', async () => {
      await using open = await openStub({ version, clients: 1 });
      await Promise.all(Array.from({ length: 8 }, () => open.driver.list(signal())));
      for (let n = 0; n < 5; n += 1) await open.driver.list(signal());
      expect(logins(open.stub)).toBe(1);
      expect(open.stub.requests.filter(({ path }) => path === '/api/release')).toHaveLength(1);
    });

    test('a session lost by a restart is made anew, for a read and for a change', async () => {
      await using open = await openStub({ version, clients: 1 });
      await open.driver.list(signal());
      open.stub.restart();
      await expect(open.driver.list(signal())).resolves.toHaveLength(1);
      open.stub.restart();
      await expect(applyOne(open.driver, wish('a'))).resolves.toMatchObject({ outcome: 'applied' });
      expect(open.stub.named('a')).toHaveLength(1);
      expect(logins(open.stub)).toBe(version === 14 ? 3 : 1);
    });

    test('a session that ends between the list and the change is made anew, once, and the change is made once', async () => {
      await using open = await openStub({ version, clients: 1 });
      await open.driver.list(signal());
      let isOver = false;
      // Asked before each request is answered, and picks none.
      open.stub.failNext('drop', 1, (request) => {
        if (!isOver && isChange(request)) {
          isOver = true;
          forgetEverybody(open.stub);
        }
        return false;
      });
      await expect(applyOne(open.driver, wish('a'))).resolves.toMatchObject({ outcome: 'applied' });
      expect(open.stub.named('a')).toHaveLength(1);
      forgetEverybody(open.stub);
      await expect(open.driver.list(signal())).resolves.toHaveLength(2);
      expect(logins(open.stub)).toBe(3);
    });

    test('a wrong password is an error of the credentials that does not repeat it', async () => {
      await using open = await openStub({ version }, { password: 'CANARY-PASSWORD' });
      const error = await open.driver.list(signal()).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ name: 'DriverError', code: 'auth_failed', outcomeUnknown: false });
      expect(everythingOf(error)).not.toContain('CANARY');
    });

    test('a 500 that is about the change is not taken for a key that is refused', async () => {
      await using open = await openStub({ version, password: 'the-key' }, { password: undefined, apiKey: 'the-key' });
      open.stub.failNext('work_then_500', 1, isChange);
      await expect(applyOne(open.driver, wish('a'))).resolves.toMatchObject({ outcome: 'applied' });
      expect(open.log).toEqual([]);
    });

    test('a key serves when there is no password, and when the password is wrong', async () => {
      await using open = await openStub(
        { version, clients: 1, password: 'the-key' },
        { password: undefined, apiKey: 'the-key' },
      );
      await expect(open.driver.list(signal())).resolves.toHaveLength(1);
      const allowPrivate = ['127.0.0.0/8'];
      await using driver = openWgEasyDriver({ url: open.stub.url, password: 'wrong', apiKey: 'the-key', allowPrivate });
      await expect(driver.list(signal())).resolves.toHaveLength(1);
      await using wrong = openWgEasyDriver({ url: open.stub.url, apiKey: 'CANARY', allowPrivate });
      await expect(wrong.list(signal())).rejects.toMatchObject({ code: 'auth_failed' });
    });
  });

  describe('reading', () => {
    test('a client is shown with its name, addresses and traffic, a disabled one without', async () => {
      await using open = await openStub({ version, clients: ['seen', 'off'] });
      const [seen, off] = open.stub.clients();
      if (!seen || !off) throw new Error();
      open.stub.edit(off.id, { enabled: false });
      open.stub.setTraffic(seen.id, {
        rx: 1024,
        tx: 4096,
        endpoint: '198.51.100.7:4242',
        lastHandshakeAt: new Date(0),
      });
      const peers = await open.driver.list(signal());
      const v6 = (n: number) => (version === 15 ? [`fdcc:ad94:bacf:61a4::cafe:${n}/128`] : []);
      expect(new Map(peers.map((peer) => [peer.tag, peer]))).toEqual(
        new Map([
          [
            'seen',
            {
              publicKey: seen.publicKey,
              presharedKey: undefined,
              allowedIps: ['10.8.0.2/32', ...v6(2)],
              enabled: true,
              endpoint: version === 15 ? '198.51.100.7:4242' : null,
              lastHandshakeAt: '1970-01-01T00:00:00.000Z',
              rxBytes: 1024,
              txBytes: 4096,
              tag: 'seen',
            },
          ],
          [
            'off',
            {
              publicKey: off.publicKey,
              presharedKey: undefined,
              allowedIps: ['10.8.0.3/32', ...v6(3)],
              enabled: false,
              endpoint: null,
              lastHandshakeAt: null,
              rxBytes: 0,
              txBytes: 0,
              tag: 'off',
            },
          ],
        ]),
      );
    });

    test.each([0, 1])('with %i clients the key and the endpoint of the host are told', async (clients) => {
      await using open = await openStub({ version, clients });
      expect(open.driver.version).toBeUndefined();
      await expect(open.driver.describe(signal())).resolves.toMatchObject(open.stub.server);
      expect(open.driver.version).toBe(String(version));
      expect(open.stub.requests.map(({ path }) => path)).not.toContain('/api/wireguard/backup');
      expect(open.stub.mutations()).toEqual([]);
    });

    test('clients that somebody gave odd names do no harm', async () => {
      await using open = await openStub({ version, clients: ['x'.repeat(300), '__proto__', 'constructor', 'Иван 🦊'] });
      if (version === 14) for (const name of [42, { a: 1 }, null, 'two\n# lines']) open.stub.add(name);
      const peers = await open.driver.list(signal());
      expect(peers).toHaveLength(version === 14 ? 8 : 4);
      expect(peers.map(({ tag }) => tag)).toContain('__proto__');
    });

    test('an answer with __proto__ in it pollutes nothing', async () => {
      await using open = await openStub({ version, clients: 2 });
      open.stub.fault = 'proto';
      const peers = await open.driver.list(signal());
      expect(peers.map(({ enabled }) => enabled)).toEqual([true, true]);
      expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    });

    test('what the host made for clients that are there is told, unless it cannot be used, and nothing is changed', async () => {
      await using open = await openStub({ version, clients: ['phone', 'off', 'odd', 'other'] });
      const [phone, off, odd] = open.stub.clients();
      if (!phone || !off || !odd) throw new Error();
      open.stub.edit(off.id, { enabled: false });
      open.stub.failNext('error', 1, ({ path }) => path.endsWith(`/${odd.id}/configuration`));
      const keys = [phone, off, odd].map(({ publicKey }) => publicKey);
      const reports = await open.driver.read([...keys, generateKeyPair().publicKey], signal());
      const told = new Map(reports.map((report) => [report.publicKey, report]));
      expect([...told.keys()].sort()).toEqual([phone.publicKey, off.publicKey].sort());
      for (const client of [phone, off]) {
        const { privateKey, presharedKey } = client;
        expect(told.get(client.publicKey)).toMatchObject({ privateKey, presharedKey });
        expect(told.get(client.publicKey)?.addresses[0]).toBe(`${client.address}/32`);
      }
      expect(open.stub.mutations()).toEqual([]);
      open.stub.fault = 'gateway';
      await expect(open.driver.read(keys, signal())).rejects.toMatchObject({ code: 'unreachable' });
    });

    test('a list whose connection dies is asked for once more: a kept connection may have been closed already', async () => {
      await using open = await openStub({ version, clients: 2 });
      await open.driver.list(signal());
      open.stub.failNext('drop', 1, isList);
      await expect(open.driver.list(signal())).resolves.toHaveLength(2);
      expect(open.stub.requests.filter(isList)).toHaveLength(3);
    });

    test('a list that is empty once is not believed', async () => {
      await using open = await openStub({ version, clients: 2 });
      open.stub.failNext('empty_list', 1, isList);
      await expect(open.driver.list(signal())).resolves.toHaveLength(2);
    });

    test.each([
      ['html', 'bad_answer'],
      ['redirect', 'bad_answer'],
      ['huge', 'bad_answer'],
      ['gateway', 'unreachable'],
      ['drop', 'unreachable'],
      ['hang', 'timeout'],
      ['drip', 'timeout'],
    ] as const)('a host that answers with "%s" is the error %s, soon', async (fault, code) => {
      await using open = await openStub({ version, clients: 2 }, { maxAnswerBytes: 1024 ** 2 });
      for (const isFirstCall of [true, false]) {
        if (!isFirstCall) await open.driver.list(signal());
        open.stub.fault = fault;
        const started = performance.now();
        await expect(open.driver.list(signal()), fault).rejects.toMatchObject({ name: 'DriverError', code });
        expect(performance.now() - started).toBeLessThan(3_000);
        open.stub.fault = null;
      }
    });

    test('a host that is down is unreachable, and is used again once it is up', async () => {
      await using open = await openStub({ version, clients: 2 });
      await open.driver.list(signal());
      await open.stub.goDown();
      await expect(open.driver.list(signal())).rejects.toMatchObject({ code: 'unreachable', outcomeUnknown: false });
      await expect(applyOne(open.driver, wish('a'))).rejects.toMatchObject({
        code: 'unreachable',
        outcomeUnknown: false,
      });
      await open.stub.comeUp();
      await expect(open.driver.list(signal())).resolves.toHaveLength(2);
    });

    test('a host that hangs is left at the moment the signal says', async () => {
      await using open = await openStub({ version }, { requestMs: 60_000 });
      open.stub.fault = 'hang';
      await expect(open.driver.list(AbortSignal.timeout(50))).rejects.toMatchObject({ code: 'timeout' });
    });
  });

  describe('making peers', () => {
    test('what the host made is reported, with a configuration that fits', async () => {
      await using open = await openStub({ version, clients: 1 });
      const reported = await reportOf(open.driver, wish('phone'));
      const [client] = open.stub.named('phone');
      if (!client) throw new Error();
      const addresses = [`${client.address}/32`, ...(version === 15 ? [`${client.ipv6Address}/128`] : [])];
      expect(reported).toMatchObject({
        publicKey: client.publicKey,
        privateKey: client.privateKey,
        presharedKey: client.presharedKey,
        addresses,
      });
      expect(parseClientConfig(reported.config ?? '')).toMatchObject(open.stub.server);
    });

    test('a wanted address is given, also to a new client', async () => {
      await using open = await openStub({ version });
      const address = '10.8.0.77/32';
      const reported = await reportOf(open.driver, wish('phone', { addresses: [address] }));
      expect(reported.addresses).toContain(address);
      expect(open.stub.named('phone')[0]?.address).toBe('10.8.0.77');
    });

    test('a peer whose client is gone is made again under the same name, and its new keys are reported', async () => {
      await using open = await openStub({ version });
      const before = await reportOf(open.driver, wish('phone'));
      open.stub.delete(open.stub.clients()[0]?.id ?? '');
      const after = await reportOf(
        open.driver,
        wish('phone', { publicKey: before.publicKey, addresses: before.addresses }),
      );
      expect(after.publicKey).not.toBe(before.publicKey);
      expect(after.addresses).toEqual(before.addresses);
      expect(derivePublicKey(after.privateKey as NonNullable<typeof after.privateKey>)).toBe(after.publicKey);
      expect(open.stub.named('phone')).toHaveLength(1);
    });

    test('a create that was done is not repeated because the session ended right after it', async () => {
      await using open = await openStub({ version, clients: 1 });
      open.stub.failNext('work_then_restart', 1, isChange);
      const reported = await reportOf(open.driver, wish('phone'));
      expect(open.stub.named('phone').map(({ publicKey }) => publicKey)).toEqual([reported.publicKey]);
      expect(creates(open.stub)).toHaveLength(1);
    });

    test.each(['work_then_drop', 'work_then_500', 'duplicate', 'error', 'drop', 'silent', 'gateway'] as const)(
      'a create that meets "%s" ends with exactly one client',
      async (fault) => {
        await using open = await openStub({ version, clients: 1 });
        open.stub.failNext(fault, 1, isChange);
        const reported = await reportOf(open.driver, wish('phone'));
        expect(open.stub.named('phone').map(({ publicKey }) => publicKey)).toEqual([reported.publicKey]);
        expect(open.stub.peers()).toContain(reported.publicKey);
        expect(open.stub.clients()).toHaveLength(2);
        // What was done is found in the list, and not made a second time to be deleted.
        if (fault.startsWith('work_then')) expect(creates(open.stub)).toHaveLength(1);
      },
    );

    test('a list that is empty once after a create makes no second client', async () => {
      await using open = await openStub({ version, clients: 1 });
      await open.driver.list(signal());
      let lists = 0;
      open.stub.failNext('empty_list', 1, (request) => isList(request) && ++lists === 2);
      await reportOf(open.driver, wish('phone'));
      expect(open.stub.mutations().filter(({ method }) => method === 'POST')).toHaveLength(1);
    });

    test('a create whose answer is lost is not repeated because the list is empty twice afterwards', async () => {
      await using open = await openStub({ version });
      open.stub.failNext('work_then_drop', 1, isChange);
      open.stub.failNext('empty_list', 2, (request) => isList(request) && open.stub.mutations().length > 0);
      await reportOf(open.driver, wish('phone'));
      expect(creates(open.stub)).toHaveLength(1);
    });

    test('of twins the oldest stays, or the one whose key is wanted; clients of other names are not touched', async () => {
      await using open = await openStub({ version, clients: ['phone2', 'Phone', 'phone '] });
      const [first, second, third] = [open.stub.add('phone'), open.stub.add('phone'), open.stub.add('phone')];
      await reportOf(open.driver, wish('phone', { publicKey: second.publicKey }));
      expect(open.stub.named('phone')).toEqual([second]);
      const younger = open.stub.add('phone');
      expect((await reportOf(open.driver, wish('phone'))).publicKey).toBe(second.publicKey);
      expect(open.stub.clients()).toHaveLength(4);
      expect(open.stub.peers()).not.toContain(first.publicKey);
      expect(open.stub.peers()).not.toContain(third.publicKey);
      expect(open.stub.peers()).not.toContain(younger.publicKey);
      expect(open.log).toContain('a second client of the same name is deleted');
    });

    test('a full pool fails the peers that have no room, and no others', async () => {
      await using open = await openStub({ version, pool: '10.8.0.0/29' });
      const wishes = Array.from({ length: 7 }, (_, n) => wish(`p${n}`));
      const results = await open.driver.apply(wishes, signal());
      expect(results.filter(({ outcome }) => outcome === 'applied')).toHaveLength(5);
      expect(open.stub.clients()).toHaveLength(5);
    });

    test('names that could carry anything but a name are never sent', async () => {
      await using open = await openStub({ version });
      const names = [...hostileText, '', 'x'.repeat(33), 'a b', 'Иван', 'a/b', 'a\u2028b', "a'b", 'a"b', '{}', 'a%0ab'];
      const isRefused = (name: string) => version === 15 && name.includes('__proto__');
      const results = await open.driver.apply(
        names.map((tag) => wish(tag)),
        signal(),
      );
      const sent = open.stub.mutations().map(({ body }) => (JSON.parse(body || '{}') as { name?: string }).name);
      for (const name of sent) expect(name ?? '').toMatch(/^[A-Za-z0-9_.-]{0,32}$/);
      expect(results.map(({ outcome }) => outcome)).toEqual(
        names.map((name) => (/^[A-Za-z0-9_.-]{1,32}$/.test(name) && !isRefused(name) ? 'applied' : 'failed')),
      );
    });

    test('bad keys and addresses fail by themselves, without their text', async () => {
      await using open = await openStub({ version });
      const bad = [
        wish('a', { publicKey: 'CANARY' as PublicKey }),
        wish('b', { addresses: ['10.8.0.7/24'] }),
        wish('c', { addresses: ['10.8.0.7/32\nCANARY'] }),
        wish('d', { addresses: ['0.0.0.0/0'] }),
        { type: 'remove', publicKey: 'CANARY' as PublicKey, tag: null } as const,
      ];
      const results = await open.driver.apply([...bad, wish('good')], signal());
      expect(results.map(({ outcome }) => outcome)).toEqual([...bad.map(() => 'failed'), 'applied']);
      expect(JSON.stringify(results)).not.toContain('CANARY');
    });
  });

  describe('repairing', () => {
    test('a correct peer gets no write', async () => {
      await using open = await openStub({ version });
      const { publicKey, addresses } = await reportOf(open.driver, wish('phone'));
      const before = open.stub.mutations().length;
      await applyOne(open.driver, wish('phone', { publicKey, addresses }));
      expect(open.stub.mutations()).toHaveLength(before);
    });

    test('a peer that somebody disabled is enabled, one that somebody moved gets its address back', async () => {
      await using open = await openStub({ version });
      const { publicKey, addresses } = await reportOf(open.driver, wish('phone'));
      const [client] = open.stub.clients();
      if (!client) throw new Error();
      open.stub.edit(client.id, {
        enabled: false,
        address: '10.8.0.99',
        serverAllowedIps: version === 15 ? ['10.9.0.0/24'] : [],
      });
      const reported = await reportOf(open.driver, wish('phone', { publicKey, addresses }));
      expect(reported).toMatchObject({ publicKey, addresses });
      const [peer] = await open.driver.list(signal());
      expect(peer).toMatchObject({ enabled: true, allowedIps: addresses });
    });

    test('an address that another client has is not taken from it', async () => {
      await using open = await openStub({ version });
      const foreign = open.stub.add('by hand', '10.8.0.50');
      const { publicKey } = await reportOf(open.driver, wish('phone'));
      const before = open.stub.mutations().length;
      const moved = await applyOne(open.driver, wish('phone', { publicKey, addresses: ['10.8.0.50/32'] }));
      const made = await applyOne(open.driver, wish('laptop', { addresses: ['10.8.0.50/32'] }));
      expect([moved, made]).toEqual([
        { outcome: 'failed', message: 'another client has the address' },
        { outcome: 'failed', message: 'another client has the address' },
      ]);
      expect(open.stub.mutations()).toHaveLength(before);
      expect(open.stub.clients().find(({ id }) => id === foreign.id)?.address).toBe('10.8.0.50');
    });

    test('an address passes from one peer to another within one batch', async () => {
      await using open = await openStub({ version });
      const first = await reportOf(open.driver, wish('first'));
      const second = await reportOf(open.driver, wish('second'));
      const results = await open.driver.apply(
        [
          { type: 'remove', publicKey: first.publicKey, tag: 'first' },
          wish('second', { publicKey: second.publicKey, addresses: ['10.8.0.2/32'] }),
        ],
        signal(),
      );
      expect(results.map(({ outcome }) => outcome)).toEqual(['applied', 'applied']);
      expect(open.stub.clients().map(({ name, address }) => [name, address])).toEqual([['second', '10.8.0.2']]);
    });

    test.each(['work_then_drop', 'work_then_500', 'error', 'drop', 'silent'] as const)(
      'a suspend and a removal that meet "%s" come true, in WireGuard too',
      async (fault) => {
        await using open = await openStub({ version, clients: 1 });
        const [a, b] = [await reportOf(open.driver, wish('a')), await reportOf(open.driver, wish('b'))];
        for (const change of [
          { type: 'suspend', publicKey: a.publicKey, tag: 'a' },
          { type: 'remove', publicKey: b.publicKey, tag: 'b' },
        ] as const) {
          open.stub.failNext(fault, 1, isChange);
          await expect(applyOne(open.driver, change)).resolves.toEqual({ outcome: 'applied' });
        }
        expect(open.stub.clients().map(({ name, enabled }) => [name, enabled])).toEqual([
          ['by hand 0', true],
          ['a', false],
        ]);
        expect(open.stub.peers()).toHaveLength(1);
      },
    );

    test('a client that was not disabled or deleted does not count as gone because the list is empty twice', async () => {
      await using open = await openStub({ version, clients: 1 });
      const peers = [await reportOf(open.driver, wish('a')), await reportOf(open.driver, wish('b'))];
      for (const [n, type] of (['suspend', 'remove'] as const).entries()) {
        const before = open.stub.mutations().length;
        open.stub.failNext('silent', 1, isChange);
        open.stub.failNext('empty_list', 2, (request) => isList(request) && open.stub.mutations().length > before);
        const change = { type, publicKey: (peers[n] as ReportedPeer).publicKey, tag: null };
        await expect(applyOne(open.driver, change)).resolves.toEqual({ outcome: 'applied' });
      }
      expect(open.stub.clients().map(({ name, enabled }) => [name, enabled])).toEqual([
        ['by hand 0', true],
        ['a', false],
      ]);
    });

    test('a peer that is disabled in the table and alive in WireGuard is shown as enabled, and cut off', async () => {
      await using open = await openStub({ version });
      const peers = await Promise.all(['a', 'b', 'c', 'd'].map((tag) => reportOf(open.driver, wish(tag))));
      // What the lease of a server prevents.
      const statuses = await disableAllAtOnce(open.stub);
      expect(new Set(statuses)).toEqual(new Set([version === 14 ? 200 : 500]));
      expect(open.stub.peers()).not.toEqual([]);
      expect(open.stub.maxConcurrentMutations).toBeGreaterThan(1);
      const suspend = peers.map(({ publicKey }) => ({ type: 'suspend', publicKey, tag: null }) as const);
      const results = await open.driver.apply(suspend, signal());
      expect(results.every(({ outcome }) => outcome === 'applied')).toBe(true);
      expect(open.stub.peers()).toEqual([]);
      expect((await open.driver.list(signal())).map(({ enabled }) => enabled)).toEqual([false, false, false, false]);
    });

    test('several batches at once are made one after another', async () => {
      await using open = await openStub({ version });
      const batches = Array.from({ length: 5 }, (_, n) => [wish(`a${n}`), wish(`b${n}`)]);
      await Promise.all(batches.map((batch) => open.driver.apply(batch, signal())));
      expect(open.stub.clients()).toHaveLength(10);
      expect(open.stub.maxConcurrentMutations).toBe(1);
    });

    test('a batch that waits for another ends when its signal says, and is never begun', async () => {
      await using open = await openStub({ version }, { requestMs: 5_000 });
      await open.driver.list(signal());
      open.stub.failNext('hang', 1_000, isChange);
      const first = new AbortController();
      const hanging = open.driver.apply([wish('first')], first.signal);
      await expect.poll(() => open.stub.mutations().length).toBe(1);
      await expect(open.driver.apply([wish('second')], AbortSignal.timeout(20))).rejects.toMatchObject({
        code: 'timeout',
      });
      first.abort();
      await expect(hanging).rejects.toMatchObject({ code: 'timeout' });
      expect(open.stub.mutations().map(({ body }) => body)).toEqual([expect.stringContaining('first')]);
    });

    test('a host that dies half-way leaves what is done done, and says so', async () => {
      await using open = await openStub({ version, pool: '10.8.0.0/23' });
      open.stub.failNext('hang', 1_000, (request) => isChange(request) && open.stub.clients().length >= 150);
      const results = await open.driver.apply(
        Array.from({ length: 250 }, (_, n) => wish(`p${n}`)),
        AbortSignal.timeout(4_000),
      );
      const outcomes = results.map(({ outcome }) => outcome);
      expect(outcomes.slice(0, 100)).toEqual(new Array(100).fill('applied'));
      expect(outcomes.slice(200)).not.toContain('applied');
      const lost = results.filter(({ outcome }) => outcome !== 'applied');
      for (const result of lost) expect(result).toMatchObject({ hostLost: true });
      expect(open.stub.clients()).toHaveLength(150);
      expect(new Set(open.stub.clients().map(({ name }) => name)).size).toBe(150);
    });

    test('a host that fails at every change is not asked for all of them', async () => {
      await using open = await openStub({ version });
      open.stub.failNext('error', 1_000, isChange);
      const wishes = Array.from({ length: 60 }, (_, n) => wish(`p${n}`));
      const results = await open.driver.apply(wishes, signal());
      expect(results.filter(({ outcome }) => outcome === 'applied')).toEqual([]);
      expect(open.stub.mutations().length).toBeLessThanOrEqual(40);
    });

    test('a host that lists and then hangs at changes is left after the third', async () => {
      await using open = await openStub({ version }, { requestMs: 150 });
      await open.driver.list(signal());
      open.stub.failNext('hang', 1_000, isChange);
      const wishes = Array.from({ length: 60 }, (_, n) => wish(`p${n}`));
      await expect(open.driver.apply(wishes, signal())).rejects.toMatchObject({ code: 'timeout' });
      expect(open.stub.mutations()).toHaveLength(3);
    });

    test('who knows the key of a client needs no configuration of it, and who does not gets no half of a report', async () => {
      await using open = await openStub({ version });
      const { publicKey } = await reportOf(open.driver, wish('phone'));
      open.stub.failNext('html', 2, ({ path }) => path.endsWith('/configuration'));
      await expect(applyOne(open.driver, wish('phone', { publicKey }))).resolves.toEqual({ outcome: 'applied' });
      await expect(applyOne(open.driver, wish('phone'))).resolves.toMatchObject({ outcome: 'unknown' });
    });

    test('a removal that ends in a 500 is asked for again though the list is right: WireGuard may not be', async () => {
      await using open = await openStub({ version, clients: 1 });
      const { publicKey } = await reportOf(open.driver, wish('phone'));
      open.stub.failNext('work_then_500', 1, isChange);
      await applyOne(open.driver, { type: 'remove', publicKey, tag: 'phone' });
      expect(open.stub.mutations().filter(({ method }) => method === 'DELETE')).toHaveLength(2);
    });

    test('while a client cannot be deleted no other is made under its name', async () => {
      await using open = await openStub({ version });
      const { publicKey } = await reportOf(open.driver, wish('phone'));
      open.stub.failNext('error', 1_000, ({ method }) => method === 'DELETE');
      const results = await open.driver.apply([{ type: 'remove', publicKey, tag: 'phone' }, wish('phone')], signal());
      expect(results.map(({ outcome }) => outcome)).toEqual(['unknown', 'failed']);
      expect(open.stub.named('phone').map((client) => client.publicKey)).toEqual([publicKey]);
    });

    test('when nothing came true the error says that something may have', async () => {
      await using open = await openStub({ version, clients: 1 });
      await open.driver.list(signal());
      let isSent = false;
      open.stub.failNext('work_then_drop', 1, (request) => {
        isSent ||= isChange(request);
        return isSent;
      });
      open.stub.failNext('gateway', 100, () => isSent);
      const error = await open.driver.apply([wish('a')], signal()).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ name: 'DriverError', outcomeUnknown: true });
    });
  });

  test('no error, result or line of the log holds a secret, whatever the host does', async () => {
    await using open = await openStub({ version, clients: 2, password: 'CANARY-PASSWORD' });
    const { publicKey } = await reportOf(open.driver, wish('phone'));
    const seen: unknown[] = [];
    const faults: WgEasyFault[] = [
      'drop',
      'work_then_drop',
      'work_then_500',
      'error',
      'gateway',
      'hang',
      'drip',
      'html',
      'redirect',
      'silent',
      'empty_list',
      'restart',
      'work_then_restart',
    ];
    for (const fault of faults) {
      open.stub.fault = fault;
      const calls = [
        () => open.driver.list(signal()).then(() => null),
        () => open.driver.describe(signal()).then(() => null),
        () =>
          open.driver
            .apply([wish('new', { publicKey: generateKeyPair().publicKey })], AbortSignal.timeout(1_000))
            .then(withoutReports),
        () => open.driver.apply([{ type: 'suspend', publicKey, tag: 'phone' }], AbortSignal.timeout(1_000)),
      ];
      for (const call of calls) seen.push(await call().catch((error: unknown) => error));
    }
    const text = [...seen.map(everythingOf), ...open.log].join('\n');
    const secrets = open.stub.clients().flatMap(({ privateKey, presharedKey }) => [privateKey, presharedKey]);
    for (const secret of ['CANARY', ...secrets]) expect(text).not.toContain(secret);
    expect(seen.filter((one) => one instanceof Error && !(one instanceof DriverError))).toEqual([]);
  });
});

describe('versions', () => {
  test('a v15 that cannot reach the internet is still a v15', async () => {
    await using open = await openStub({ version: 15, isOffline: true, clients: 1 });
    await expect(open.driver.list(signal())).resolves.toHaveLength(1);
  });

  test('a v15 whose cookie is for https only is used over http', async () => {
    await using open = await openStub({ version: 15, isSecure: true, clients: 1 });
    await open.driver.list(signal());
    await open.driver.list(signal());
    expect(open.stub.requests.some(({ headers }) => headers.authorization !== undefined)).toBe(false);
  });

  test('where cookies get lost on the way, Basic authorization is used', async () => {
    await using open = await openStub({ version: 15, ignoresCookies: true, clients: 1 });
    await expect(open.driver.list(signal())).resolves.toHaveLength(1);
    const before = open.stub.requests.length;
    await open.driver.list(signal());
    expect(open.stub.requests).toHaveLength(before + 1);
  });

  test.each([true, 'INVALID_TOTP_CODE'] as const)(
    'a user with a second factor (%s) is an error of the credentials, and is told so',
    async (hasTotp) => {
      await using open = await openStub({ version: 15, hasTotp });
      await expect(open.driver.list(signal())).rejects.toMatchObject({
        code: 'auth_failed',
        message: expect.stringContaining('second factor'),
      });
    },
  );

  test.each([
    [14, 15],
    [15, 14],
  ] as const)('a v%i that became a v%i on the same data goes on with the same keys', async (from, to) => {
    await using open = await openStub({ version: from, clients: 2 });
    const { publicKey } = await reportOf(open.driver, wish('phone'));
    open.stub.restart(to);
    await expect(open.driver.list(signal())).resolves.toHaveLength(3);
    await expect(reportOf(open.driver, wish('phone', { publicKey }))).resolves.toMatchObject({ publicKey });
    open.stub.restart(from);
    await expect(applyOne(open.driver, { type: 'remove', publicKey, tag: 'phone' })).resolves.toEqual({
      outcome: 'applied',
    });
    expect(open.stub.clients()).toHaveLength(2);
  });

  test('a client of a v15 that somebody let expire is enabled again, without an expiry', async () => {
    await using open = await openStub({ version: 15 });
    const { publicKey } = await reportOf(open.driver, wish('phone'));
    open.stub.edit('1', { enabled: false, expiresAt: '2020-01-01T00:00:00.000Z' });
    await expect(applyOne(open.driver, wish('phone', { publicKey }))).resolves.toMatchObject({ outcome: 'applied' });
    expect(open.stub.clients()[0]).toMatchObject({ enabled: true, expiresAt: null, name: 'phone' });
  });

  test('a user of a v15 who may not see the settings learns of the host from a client', async () => {
    await using open = await openStub({ version: 15, isPlainUser: true });
    await expect(open.driver.describe(signal())).rejects.toMatchObject({ code: 'auth_failed' });
    open.stub.add('by hand');
    await expect(open.driver.describe(signal())).resolves.toEqual(open.stub.server);
  });

  test('a v15 is not asked for a second address of one family', async () => {
    await using open = await openStub({ version: 15 });
    const addresses = ['10.8.0.9/32', '10.8.0.10/32'];
    const result = await applyOne(open.driver, wish('phone', { addresses }));
    expect(result).toMatchObject({ outcome: 'failed', message: expect.stringContaining('one IPv4 and one IPv6') });
    expect(open.stub.mutations().map(({ path }) => path)).toEqual(['/api/client']);
  });

  test('what somebody routed to a client of a v15 beside its own addresses is taken away', async () => {
    await using open = await openStub({ version: 15 });
    const { publicKey, addresses } = await reportOf(open.driver, wish('phone'));
    open.stub.edit('1', { serverAllowedIps: ['10.9.0.0/24'] });
    await applyOne(open.driver, wish('phone', { publicKey, addresses }));
    expect((await open.driver.list(signal()))[0]?.allowedIps).toEqual(addresses);
  });

  test('a client of a v15 whose id has come to mean another is not changed', async () => {
    await using open = await openStub({ version: 15 });
    const { publicKey } = await reportOf(open.driver, wish('phone'));
    const foreign = generateKeyPair().publicKey;
    // Restored from a backup, in the moment between the list and the change.
    open.stub.failNext('drop', 1, ({ method, path }) => {
      if (method === 'GET' && path === '/api/client/1') open.stub.edit('1', { publicKey: foreign, name: 'foreign' });
      return false;
    });
    const moved = await applyOne(open.driver, wish('phone', { publicKey, addresses: ['10.8.0.9/32'] }));
    expect(moved).toEqual({ outcome: 'failed', message: 'another client has this id now' });
    expect(open.stub.clients()).toMatchObject([{ name: 'foreign', address: '10.8.0.2' }]);
  });

  test('a v14 is not asked for what it cannot give', async () => {
    await using open = await openStub({ version: 14 });
    const result = await applyOne(open.driver, wish('phone', { addresses: ['10.8.0.9/32', 'fd00::9/128'] }));
    expect(result).toMatchObject({ outcome: 'failed', message: expect.stringContaining('exactly one IPv4 address') });
    expect(open.stub.mutations().map(({ method }) => method)).toEqual(['POST']);
  });

  test('a v14 that lost its file is seen as it is: without clients', async () => {
    await using open = await openStub({ version: 14, clients: 3 });
    await disableAllAtOnce(open.stub);
    expect(open.stub.isFileCorrupt).toBe(true);
    const before = await open.driver.describe(signal());
    open.stub.restart();
    await expect(open.driver.list(signal())).resolves.toEqual([]);
    expect((await open.driver.describe(signal())).publicKey).not.toBe(before.publicKey);
  });
});

describe('where the driver may go', () => {
  const open = (url: string, allowPrivate: string[] = ['0.0.0.0/0', '::/0']) =>
    openWgEasyDriver({ url, password: 'CANARY-PASSWORD', allowPrivate });

  test.each([
    'ftp://10.0.0.5/',
    'http://user:CANARY@10.0.0.5:51821',
    'http://10.0.0.5:51821/admin',
    'http://10.0.0.5:51821/?x=1',
    'http://10.0.0.5:51821/#x',
    'http://169.254.169.254',
    'http://[fd00:ec2::254]',
    'not a url',
    '',
  ])('%j is refused when the driver is opened', (url) => {
    expect(() => open(url)).toThrow(expect.objectContaining({ name: 'DriverError', code: 'refused' }));
    expect(() => open(url)).not.toThrow(/CANARY/);
  });

  test('a private address needs to be on the list, by number and by name', async () => {
    expect(() => open('http://10.0.0.5:51821', [])).toThrow(expect.objectContaining({ code: 'refused' }));
    await using listed = open('http://10.0.0.5:51821', ['10.0.0.0/8']);
    expect(listed.kind).toBe('wg-easy');
    await using stubbed = await openStub({ version: 14, clients: 1 });
    const byName = stubbed.stub.url.replace('127.0.0.1', 'localhost');
    await using refused = open(byName, []);
    await expect(refused.list(signal())).rejects.toMatchObject({ code: 'refused' });
    await using allowed = openWgEasyDriver({
      url: byName,
      password: stubbed.stub.password,
      allowPrivate: ['127.0.0.0/8', '::1/128'],
    });
    await expect(allowed.list(signal())).resolves.toHaveLength(1);
  });

  test('a driver without password and key is refused', () => {
    expect(() => openWgEasyDriver({ url: 'http://1.1.1.1' })).toThrow(expect.objectContaining({ code: 'refused' }));
  });
});

/** As an hour does it for a v15, and a restart for a v14: what it has become meanwhile knows no session. */
function forgetEverybody(stub: WgEasyStub): void {
  const { version } = stub;
  stub.restart(version === 14 ? 15 : 14);
  stub.restart(version);
}

/** As two programs would that do not know of each other. */
async function disableAllAtOnce(stub: WgEasyStub): Promise<number[]> {
  const { version, username, password, url } = stub;
  const basic = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const [path, authorization] = version === 14 ? ['wireguard/client', password] : ['client', basic];
  return Promise.all(
    stub.clients().map(async ({ id }) => {
      const answer = await fetch(`${url}/api/${path}/${id}/disable`, { method: 'POST', headers: { authorization } });
      return answer.status;
    }),
  );
}

function withoutReports(results: readonly ChangeResult[]): unknown {
  return results.map((result) => ({ ...result, reported: undefined }));
}

/** Whatever a logger could make of it. */
function everythingOf(value: unknown): string {
  if (!(value instanceof Error)) return JSON.stringify(value) ?? '';
  const { message, stack, cause } = value;
  return [message, stack, JSON.stringify(value), everythingOf(cause)].join('\n');
}
