import { readFile, rm, writeFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { conformanceChecks } from '../../src/conformance.ts';
import type { ChangeResult, ReportedPeer, SetPeer } from '../../src/driver.ts';
import { derivePublicKey, generateKeyPair, generatePresharedKey, type PublicKey } from '../../src/keys.ts';
import type { HostScripts } from '../../src/shell/commands.ts';
import { openSshDriver } from '../../src/shell/ssh.ts';
import { type SshdLab, skipWithoutSshd, startSshdLab } from '../sshd-lab.ts';
import { startWireguardLab, type WireguardLab } from '../wireguard-lab.ts';

const POOL = '10.95.0.0/16';
const signal = () => AbortSignal.timeout(60_000);

/** As such scripts are found on hosts: what is there already is left as it is. */
const applyScript = (log: string) => `#!/bin/sh
echo "apply $#: $*" >>${log}
wg show "$1" peers | grep -qxF -e "$2" && { echo 'peer already present' >&2; exit 0; }
wg set "$1" peer "$2" allowed-ips "$3" && echo 'peer added'
`;
const removeScript = (log: string) => `#!/bin/sh
echo "remove $#: $*" >>${log}
wg set "$1" peer "$2" remove && echo 'peer removed'
`;
const generateScript = (log: string) => `#!/bin/sh
echo "generate $#: $*" >>${log}
umask 077
mkdir -p "$1"
wg genkey >"$1/$2.key" && wg pubkey <"$1/$2.key" >"$1/$2.pub"
echo "PRIVATE=$1/$2.key"
echo "PUBLIC=$(cat "$1/$2.pub")"
`;

describe.skipIf(skipWithoutSshd())("an operator's own scripts", () => {
  let wireguard: WireguardLab;
  let sshd: SshdLab;
  let scripts: Required<HostScripts>;
  let keyDirectory: string;
  let log: string;

  beforeAll(async () => {
    wireguard = await startWireguardLab({ poolV4: POOL });
    sshd = await startSshdLab({ interface: wireguard.interface });
    keyDirectory = `/etc/wireguard/${wireguard.interface}.keys`;
    log = await sshd.install('scripts.log', '');
    scripts = {
      apply: await sshd.install('wg_apply.sh', applyScript(log)),
      remove: await sshd.install('wg_remove.sh', removeScript(log)),
      generate: await sshd.install('wg_gen_key.sh', generateScript(log)),
    };
    for (const script of Object.values(scripts)) await sshd.permit(script);
  });

  afterAll(async () => {
    await sshd?.[Symbol.asyncDispose]();
    await wireguard?.[Symbol.asyncDispose]();
  });

  const clear = async () => {
    for (const { publicKey } of await wireguard.dump()) await wireguard.removePeer(publicKey);
    await rm(keyDirectory, { recursive: true, force: true });
    await writeFile(log, '');
  };
  afterEach(clear);

  const open = (privilege: 'direct' | 'sudo', some: HostScripts) => {
    const target = privilege === 'sudo' ? sshd.sudo : sshd.root;
    return openSshDriver({ ...target, interface: wireguard.interface, privilege, scripts: some, keyDirectory });
  };
  const calls = async () => (await readFile(log, 'utf8')).split('\n').filter((line) => line !== '');
  const reported = (result: ChangeResult | undefined): ReportedPeer => {
    if (result?.outcome !== 'applied' || result.reported === undefined) throw new Error('nothing was reported');
    return result.reported;
  };
  const newPeer = (n: number, publicKey: PublicKey | null): SetPeer => ({
    type: 'set',
    publicKey,
    presharedKey: null,
    addresses: [`10.95.0.${n}/32`],
    tag: `device-${n}`,
  });

  describe('called by sudo, with keys that are given', () => {
    const subject = async () => {
      const driver = open('sudo', { apply: scripts.apply, remove: scripts.remove });
      return {
        driver,
        pool: POOL,
        // A script is a process or five for each peer.
        manyPeers: 60,
        addForeignPeer: (address: string) => wireguard.addForeignPeer(address),
        [Symbol.asyncDispose]: async () => {
          await driver[Symbol.asyncDispose]();
          await clear();
        },
      };
    };
    describe('the driver conforms', () => {
      for (const check of conformanceChecks.filter(({ keys }) => keys.includes('given'))) {
        test(check.name, () => check.run(subject));
      }
    });
  });

  describe('called as root, with keys that they make', () => {
    const subject = async () => {
      const driver = open('direct', scripts);
      return {
        driver,
        pool: POOL,
        addresses: 'given' as const,
        manyPeers: 60,
        addForeignPeer: (address: string) => wireguard.addForeignPeer(address),
        [Symbol.asyncDispose]: async () => {
          await driver[Symbol.asyncDispose]();
          await clear();
        },
      };
    };
    describe('the driver conforms', () => {
      for (const check of conformanceChecks.filter(({ keys }) => keys.includes('reported'))) {
        test(check.name, () => check.run(subject));
      }
    });
  });

  test('they get the interface, the key and the addresses, each as one argument', async () => {
    await using driver = open('sudo', { apply: scripts.apply, remove: scripts.remove });
    const { publicKey } = generateKeyPair();
    const peer = { ...newPeer(2, publicKey), addresses: ['10.95.0.2/32', 'fd00::2/128'] };
    await driver.apply([peer, { type: 'remove', publicKey, tag: null }], signal());
    expect(await calls()).toEqual([
      `apply 3: ${wireguard.interface} ${publicKey} 10.95.0.2/32,fd00::2/128`,
      `remove 2: ${wireguard.interface} ${publicKey}`,
    ]);
  });

  test('a preshared key is no argument', async () => {
    await using driver = open('sudo', { apply: scripts.apply });
    const peer = { ...newPeer(2, generateKeyPair().publicKey), presharedKey: generatePresharedKey() };
    await driver.apply([peer], signal());
    expect((await wireguard.dump())[0]?.presharedKey).toBe(peer.presharedKey);
    expect((await calls()).join()).not.toContain(peer.presharedKey);
  });

  test('a peer that is right is not touched; one that is wrong goes before it comes', async () => {
    await using driver = open('sudo', { apply: scripts.apply, remove: scripts.remove });
    const [right, wrong] = [newPeer(2, generateKeyPair().publicKey), newPeer(3, generateKeyPair().publicKey)];
    await driver.apply([right, wrong], signal());
    await writeFile(log, '');
    const moved = { ...wrong, addresses: ['10.95.0.9/32'] };
    await driver.apply([right, moved], signal());
    expect((await calls()).map((line) => line.split(' ')[0])).toEqual(['remove', 'apply']);
    expect((await wireguard.dump()).map(({ allowedIps }) => allowedIps[0]).toSorted()).toEqual([
      '10.95.0.2/32',
      '10.95.0.9/32',
    ]);
  });

  test('a script that fails fails what was not done, and only that', async () => {
    const failing = await sshd.install(
      'failing.sh',
      applyScript(log).replace('wg set', '[ "$3" != 10.95.0.3/32 ] && wg set'),
    );
    await sshd.permit(failing);
    await using driver = open('sudo', { apply: failing });
    const peers = [2, 3, 4].map((n) => newPeer(n, generateKeyPair().publicKey));
    const results = await driver.apply(peers, signal());
    expect(results.map(({ outcome }) => outcome)).toEqual(['applied', 'failed', 'failed']);
    expect(await wireguard.dump()).toHaveLength(1);
  });

  test('a script that fails to remove a peer fails that, also when the last one goes well', async () => {
    const [stays, goes] = [newPeer(2, generateKeyPair().publicKey), newPeer(3, generateKeyPair().publicKey)];
    const failing = await sshd.install(
      'failing-removal.sh',
      removeScript(log).replace('wg set', `[ "$2" != ${stays.publicKey} ] && wg set`),
    );
    await sshd.permit(failing);
    await using driver = open('sudo', { remove: failing });
    await driver.apply([stays, goes], signal());
    const leave = [stays, goes].map(
      ({ publicKey }) => ({ type: 'remove', publicKey: publicKey as PublicKey, tag: null }) as const,
    );
    const results = await driver.apply(leave, signal());
    expect(results[0]).toMatchObject({ outcome: 'failed' });
    const there = (await wireguard.dump()).map(({ publicKey }) => publicKey);
    expect(results.map(({ outcome }) => outcome === 'applied')).toEqual(
      leave.map(({ publicKey }) => !there.includes(publicKey)),
    );
  });

  test('a script that sudo does not permit changes nothing', async () => {
    const forbidden = await sshd.install('forbidden.sh', applyScript(log));
    await using driver = open('sudo', { apply: forbidden });
    const results = await driver.apply([newPeer(2, generateKeyPair().publicKey)], signal());
    expect(results).toMatchObject([{ outcome: 'failed' }]);
    expect([await wireguard.dump(), await calls()]).toEqual([[], []]);
  });

  describe('making keys', () => {
    test('the pair that was made is reported, with the private key from its file', async () => {
      await using driver = open('direct', scripts);
      const { publicKey, privateKey, addresses } = reported((await driver.apply([newPeer(2, null)], signal()))[0]);
      expect(privateKey && derivePublicKey(privateKey)).toBe(publicKey);
      expect(addresses).toEqual(['10.95.0.2/32']);
      expect(await wireguard.dump()).toMatchObject([{ publicKey, allowedIps: ['10.95.0.2/32'] }]);
      expect((await calls())[0]).toBe(`generate 2: ${keyDirectory} device-2`);
    });

    test('an answer that was lost is told again while its peer is there, and a new pair is made once it is gone', async () => {
      await using driver = open('direct', scripts);
      const first = reported((await driver.apply([newPeer(2, null)], signal()))[0]);
      expect(reported((await driver.apply([newPeer(2, null)], signal()))[0])).toEqual(first);
      expect((await calls()).filter((line) => line.startsWith('generate'))).toHaveLength(1);
      const remove = { type: 'remove', publicKey: first.publicKey, tag: 'device-2' } as const;
      const [, second] = await driver.apply([remove, newPeer(2, null)], signal());
      expect(reported(second).publicKey).not.toBe(first.publicKey);
      expect(await wireguard.dump()).toHaveLength(1);
    });

    test('where the account may not read the files, the private key stays on the host', async () => {
      await using driver = open('sudo', scripts);
      const { publicKey, privateKey } = reported((await driver.apply([newPeer(2, null)], signal()))[0]);
      expect(privateKey).toBeNull();
      expect(await wireguard.dump()).toMatchObject([{ publicKey }]);
    });

    test('a script may print the private key itself', async () => {
      const printing = generateScript(log).replace('PRIVATE=$1/$2.key', 'PRIVATE=$(cat "$1/$2.key")');
      const generate = await sshd.install('printing.sh', printing);
      await sshd.permit(generate);
      await using driver = open('sudo', { generate });
      const { publicKey, privateKey } = reported((await driver.apply([newPeer(2, null)], signal()))[0]);
      expect(privateKey && derivePublicKey(privateKey)).toBe(publicKey);
    });

    test.each([
      ['nothing', 'exit 0'],
      ['an error', 'exit 1'],
      ['no public key', 'echo PRIVATE=/x/y'],
      ['half a key', 'echo PRIVATE=/x/y; echo PUBLIC=AAAA'],
      ['the key that is no key', `echo PUBLIC=${'A'.repeat(43)}=`],
      ['a pair that does not belong together', 'echo "PRIVATE=$(wg genkey)"; echo "PUBLIC=$(wg genkey | wg pubkey)"'],
      ['a line that pretends to be another answer', 'echo NAME=device-3; echo "PUBLIC=$(wg genkey | wg pubkey)"'],
    ])('a script that prints %s fails its peers and puts nothing on the interface', async (_, body) => {
      const generate = await sshd.install('bad.sh', `#!/bin/sh\n${body}\n`);
      await sshd.permit(generate);
      await using driver = open('sudo', { generate });
      const given = newPeer(9, generateKeyPair().publicKey);
      const results = await driver.apply([newPeer(2, null), given], signal());
      expect(results).toMatchObject([{ outcome: 'failed' }, { outcome: 'applied' }]);
      expect((await wireguard.dump()).map(({ publicKey }) => publicKey)).toEqual([given.publicKey]);
    });
  });
});
