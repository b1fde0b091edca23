import { execFile } from 'node:child_process';
import { access, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { conformanceChecks } from '../../src/conformance.ts';
import type { ChangeResult, SetPeer } from '../../src/driver.ts';
import { derivePublicKey, generateKeyPair, generatePresharedKey, type PrivateKey } from '../../src/keys.ts';
import type { ShellDriver } from '../../src/shell/shell-driver.ts';
import { openSshDriver } from '../../src/shell/ssh.ts';
import { SshTransport } from '../../src/shell/ssh-transport.ts';
import { hostileText } from '../hostile-text.ts';
import { type SshdLab, skipWithoutSshd, startSshdLab } from '../sshd-lab.ts';
import { startWireguardLab, type WireguardLab } from '../wireguard-lab.ts';

const run = promisify(execFile);
const POOL = '10.96.0.0/16';
const SCRIPTS = ['wg-batch', 'wg-apply', 'wg-remove', 'wg-gen-key'];
const signal = () => AbortSignal.timeout(60_000);

describe.skipIf(skipWithoutSshd())('the host kit', () => {
  let wireguard: WireguardLab;
  let sshd: SshdLab;
  /** By the forced command. */
  let kit: SshTransport;
  let name: string;
  let keyDirectory: string;
  let peersFile: string;

  beforeAll(async () => {
    wireguard = await startWireguardLab({ poolV4: POOL });
    name = wireguard.interface;
    sshd = await startSshdLab({ interface: name });
    kit = new SshTransport(sshd.kit);
    keyDirectory = `/etc/wireguard/${name}.keys`;
    peersFile = `/etc/wireguard/${name}.peers`;
  });

  afterAll(async () => {
    await kit?.[Symbol.asyncDispose]();
    await sshd?.[Symbol.asyncDispose]();
    await wireguard?.[Symbol.asyncDispose]();
  });

  const clear = async () => {
    for (const { publicKey } of await wireguard.dump()) await wireguard.removePeer(publicKey);
    for (const file of [keyDirectory, peersFile]) await rm(file, { recursive: true, force: true });
  };
  afterEach(clear);

  const ask = async (verb: string, input = '') => kit.run(`wg-batch ${verb} ${name}`, input, signal());
  const section = (publicKey: string, ips: string, psk?: string) =>
    `[Peer]\nPublicKey = ${publicKey}\n${psk === undefined ? '' : `PresharedKey = ${psk}\n`}AllowedIPs = ${ips}\n`;
  const newKey = () => generateKeyPair().publicKey;
  const held = async () =>
    Object.fromEntries((await wireguard.dump()).map(({ publicKey, allowedIps }) => [publicKey, allowedIps]));

  test('shellcheck has nothing to say', async () => {
    const files = SCRIPTS.map((script) => fileURLToPath(new URL(`../../host/${script}`, import.meta.url)));
    await expect(run('shellcheck', ['--enable=avoid-nullary-conditions', ...files])).resolves.toMatchObject({
      stdout: '',
    });
  });

  describe('by the forced command', () => {
    test('the account reaches nothing but the verbs of the kit on its interface', async () => {
      for (const command of [
        'id',
        'sh',
        'cat /etc/shadow',
        'wg-batch',
        'wg-batch list',
        'wg-batch list all',
        'wg-batch list interfaces',
        'wg-batch list wg0 wg1',
        'wg-batch save',
        `wg-batch list ${name}; id`,
        `wg-batch list ${name} && id`,
        `wg-batch list $(id)`,
        `wg-batch list \`id\``,
        `wg-batch list ${name}\nid`,
        'wg-batch -i lo list lo',
        '-i lo list lo',
        '',
        ...hostileText.filter((text) => !text.includes('\0') && text.length < 1000),
      ]) {
        const { code, stdout } = await kit.run(command, '', signal());
        expect([64, 66, 77], JSON.stringify(command)).toContain(code);
        expect(stdout).toBe('');
      }
      await expect(access('/tmp/pwned')).rejects.toThrow();
    });

    test('another interface than its own is not allowed', async () => {
      expect(await kit.run('wg-batch list wg0', '', signal())).toMatchObject({ code: 77, stdout: '' });
      expect(await kit.run('wg-batch set wg0', `${section(newKey(), '10.96.0.2/32')}#end`, signal())).toMatchObject({
        code: 77,
      });
    });

    test('the private key of the interface never leaves the host', async () => {
      for (const verb of ['describe', 'list']) {
        const { code, stdout, stderr } = await ask(verb);
        expect(code).toBe(0);
        expect(stdout + stderr).not.toContain(wireguard.privateKey);
      }
    });

    test('peers are set, changed in place and removed; doing it again changes nothing', async () => {
      const [a, b] = [newKey(), newKey()];
      const psk = generatePresharedKey();
      const batch = `${section(a, '10.96.0.2/32, fd00::2/128', psk)}${section(b, '10.96.0.3/32')}#end`;
      for (const _ of [1, 2]) {
        expect((await ask('set', batch)).code).toBe(0);
        expect(await held()).toEqual({ [a]: ['10.96.0.2/32', 'fd00::2/128'], [b]: ['10.96.0.3/32'] });
      }
      expect((await ask('set', `${section(a, '10.96.0.9/32')}#end`)).code).toBe(0);
      expect(await held()).toEqual({ [a]: ['10.96.0.9/32'], [b]: ['10.96.0.3/32'] });
      const removal = `peer\n${a}\nremove\npeer\n${newKey()}\nremove\n#end`;
      for (const _ of [1, 2]) {
        expect((await ask('remove', removal)).code).toBe(0);
        expect(await held()).toEqual({ [b]: ['10.96.0.3/32'] });
      }
    });

    test('an address is never taken from another peer, in whatever spelling, and then nothing of the batch is done', async () => {
      const [a, b, c] = [newKey(), newKey(), newKey()];
      expect((await ask('set', `${section(a, '10.96.0.2/32, fd00::2/128')}#end`)).code).toBe(0);
      for (const ips of ['10.96.0.2/32', 'fd00::2/128', 'fd00:0:0::2/128', 'fd00:0000:0:0:0:0:0:0002/128']) {
        expect(await ask('set', `${section(c, '10.96.0.7/32')}${section(b, ips)}#end`), ips).toMatchObject({
          code: 73,
        });
      }
      expect(await ask('set', `${section(b, '10.96.0.8/32')}${section(c, '10.96.0.8/32')}#end`)).toMatchObject({
        code: 73,
      });
      expect(await held()).toEqual({ [a]: ['10.96.0.2/32', 'fd00::2/128'] });
    });

    test('a peer that gives up an address before makes room for another', async () => {
      const [a, b] = [newKey(), newKey()];
      await ask('set', `${section(a, '10.96.0.2/32')}#end`);
      expect((await ask('set', `${section(a, '10.96.0.3/32')}${section(b, '10.96.0.2/32')}#end`)).code).toBe(0);
      expect(await held()).toEqual({ [a]: ['10.96.0.3/32'], [b]: ['10.96.0.2/32'] });
    });

    test('the addresses of foreign peers are theirs, too', async () => {
      const foreign = await wireguard.addForeignPeer('10.96.0.5/32');
      expect((await ask('set', `${section(newKey(), '10.96.0.5/32')}#end`)).code).toBe(73);
      expect(await held()).toEqual({ [foreign]: ['10.96.0.5/32'] });
    });

    test('input that was cut off does nothing, wherever the cut is', async () => {
      const batch = `${section(newKey(), '10.96.0.2/32')}${section(newKey(), '10.96.0.14/32')}#end`;
      for (let at = 0; at < batch.length; at += 13) {
        expect((await ask('set', batch.slice(0, at))).code).toBe(65);
      }
      expect(await held()).toEqual({});
    });

    test('a single bad value refuses the whole batch', async () => {
      const good = section(newKey(), '10.96.0.2/32');
      const bad = [
        section('not a key', '10.96.0.3/32'),
        section(`${'A'.repeat(43)}=`, '10.96.0.3/32'),
        section(`${'A'.repeat(42)}B=`, '10.96.0.3/32'),
        section(newKey(), '10.96.0.3/32', 'not a key'),
        section(newKey(), '0.0.0.0/0'),
        section(newKey(), '10.96.0.0/24'),
        section(newKey(), '10.96.0.3'),
        section(newKey(), '10.96.0.3/33'),
        section(newKey(), '10.96.0.03/32'),
        section(newKey(), '10.96.0.256/32'),
        section(newKey(), '10.96.0/32'),
        section(newKey(), 'fd00::2::3/128'),
        section(newKey(), 'fd00:::2/128'),
        section(newKey(), 'fd00::12345/128'),
        section(newKey(), 'fd00:1:2:3:4:5:6/128'),
        section(newKey(), 'fd00:1:2:3:4:5:6:7:8/128'),
        section(newKey(), '::ffff:10.96.0.3/128'),
        section(newKey(), '10.96.0.3/32, 10.96.0.4/32'),
        section(newKey(), 'fd00::3/128, fd00::4/128'),
        section(newKey(), '10.96.0.3/32, fd00::3/128, 10.96.0.4/32'),
        section(newKey(), '10.96.0.3/32,fd00::3/128'),
        section(newKey(), ''),
        `${section(newKey(), '10.96.0.3/32')}Endpoint = 198.51.100.1:1\n`,
        `${section(newKey(), '10.96.0.3/32')}PersistentKeepalive = 1\n`,
        `${section(newKey(), '10.96.0.3/32')}AllowedIPs = 10.96.0.4/32\n`,
        `[Peer]\nAllowedIPs = 10.96.0.3/32\n`,
        `[Peer]\nPublicKey = ${newKey()}\n`,
        `[Interface]\nListenPort = 1\n`,
        `ListenPort = 1\n`,
        '\n',
        ...hostileText.filter((text) => text !== '' && text.length < 1000).map((text) => section(newKey(), text)),
        ...hostileText.filter((text) => text !== '' && text.length < 1000).map((text) => section(text, '10.96.0.3/32')),
      ];
      for (const one of bad) {
        const { code } = await ask('set', `${good}${one}#end`);
        expect([65, 76], JSON.stringify(one)).toContain(code);
      }
      for (const one of [
        'peer\nkey\nremove\n',
        `peer\n${newKey()}\nremove\nremove\n`,
        `peer\n${newKey()}\n`,
        `${newKey()}\n`,
        'x\n',
      ]) {
        expect((await ask('remove', `${one}#end`)).code).toBe(76);
      }
      expect(await held()).toEqual({});
      await expect(access('/tmp/pwned')).rejects.toThrow();
    });

    test('batches at the same time are made one after another: an address ends with one peer', async () => {
      const keys = Array.from({ length: 8 }, newKey);
      const codes = await Promise.all(
        keys.map(async (key) => (await ask('set', `${section(key, '10.96.0.2/32')}#end`)).code),
      );
      expect(codes.toSorted()).toEqual([0, 73, 73, 73, 73, 73, 73, 73]);
      expect(Object.values(await held())).toEqual([['10.96.0.2/32']]);
    });
  });

  describe('peers that outlive a restart', () => {
    test('they are saved when the file is there, and the file brings them back', async () => {
      const [a, b] = [newKey(), newKey()];
      const psk = generatePresharedKey();
      await mkdir('/etc/wireguard', { recursive: true });
      await writeFile(peersFile, '', { mode: 0o600 });
      await ask('set', `${section(a, '10.96.0.2/32', psk)}${section(b, '10.96.0.3/32')}#end`);
      // Where it was seen last is not where it is after a restart.
      await run('wg', ['set', name, 'peer', a, 'endpoint', '198.51.100.7:4242']);
      await ask('remove', `peer\n${b}\nremove\n#end`);
      const saved = await readFile(peersFile, 'utf8');
      expect(saved).toContain(psk);
      expect(saved).not.toMatch(/\[Interface\]|PrivateKey|Endpoint/);
      expect((await run('stat', ['-c', '%a', peersFile])).stdout).toBe('600\n');
      const before = await wireguard.dump();
      await wireguard.removePeer(a);
      await run('wg', ['addconf', name, peersFile]);
      expect(await wireguard.dump()).toEqual(before.map((peer) => ({ ...peer, endpoint: null })));
    });

    test('nothing is written when the file is not there', async () => {
      await ask('set', `${section(newKey(), '10.96.0.2/32')}#end`);
      await expect(access(peersFile)).rejects.toThrow();
    });
  });

  test('without sudo an account gets nothing out of the scripts, and changes nothing', async () => {
    await using shell = new SshTransport(sshd.sudo);
    const at = sshd.kitDirectory;
    for (const command of [
      `${at}/wg-batch list ${name}`,
      `${at}/wg-batch interfaces`,
      `${at}/wg-apply ${name} ${newKey()} 10.96.0.2/32`,
      `${at}/wg-remove ${name} ${newKey()}`,
    ]) {
      expect(await shell.run(command, '#end', signal()), command).toMatchObject({ code: 77, stdout: '' });
    }
    const made = await shell.run(`${at}/wg-gen-key ${keyDirectory} phone`, '', signal());
    expect(made).toMatchObject({ code: 73, stdout: '' });
    expect(await held()).toEqual({});
  });

  describe('one by one, as root', () => {
    const call = (script: string, ...args: string[]) =>
      run(`${sshd.kitDirectory}/${script}`, args).then(
        ({ stdout }) => ({ code: 0, stdout }),
        (error: { code: number }) => ({ code: error.code, stdout: '' }),
      );

    test('wg-apply adds and moves, wg-remove removes, both as often as one likes', async () => {
      const key = newKey();
      for (const ips of ['10.96.0.2/32', '10.96.0.2/32', '10.96.0.3/32,fd00::3/128']) {
        expect((await call('wg-apply', name, key, ips)).code).toBe(0);
        expect(await held()).toEqual({ [key]: ips.split(',') });
      }
      expect((await call('wg-apply', name, newKey(), '10.96.0.3/32')).code).toBe(73);
      for (const _ of [1, 2]) expect((await call('wg-remove', name, key)).code).toBe(0);
      expect(await held()).toEqual({});
    });

    test('bad arguments are refused with a code of their own', async () => {
      for (const args of [[], [name], [name, newKey()], [name, newKey(), '10.96.0.2/32', 'x']]) {
        expect((await call('wg-apply', ...args)).code).toBe(64);
      }
      for (const hostile of hostileText.filter((text) => !text.includes('\0') && text.length < 1000)) {
        expect([64, 65, 66, 76]).toContain((await call('wg-apply', hostile, newKey(), '10.96.0.2/32')).code);
        expect([65, 76], JSON.stringify(hostile)).toContain(
          (await call('wg-apply', name, hostile, '10.96.0.2/32')).code,
        );
        expect([65, 76], JSON.stringify(hostile)).toContain((await call('wg-apply', name, newKey(), hostile)).code);
        // Removing the all-zero key is removing nobody.
        const removed = (await call('wg-remove', name, hostile)).code;
        expect(/^A+=$/.test(hostile) ? [0] : [65, 76], JSON.stringify(hostile)).toContain(removed);
        // The one that is a plain name makes a key, which is no harm.
        const made = (await call('wg-gen-key', keyDirectory, hostile)).code;
        expect(made, JSON.stringify(hostile)).toBe(hostile === '__proto__' ? 0 : 64);
        if (!hostile.startsWith('/etc')) expect((await call('wg-gen-key', hostile, 'x')).code).toBe(64);
      }
      for (const directory of [
        '/tmp/a b',
        '/tmp/../tmp/keys',
        `${keyDirectory}/..`,
        '/tmp/$(id)',
        '/tmp/a\nb',
        'tmp/keys',
      ]) {
        expect((await call('wg-gen-key', directory, 'x')).code, directory).toBe(64);
      }
      expect(await call('wg-apply', 'wg-not-there', newKey(), '10.96.0.2/32')).toMatchObject({ code: 66 });
      expect(await held()).toEqual({});
    });

    test('an argument that holds the lines of a second peer is no argument', async () => {
      const [a, b, c] = [newKey(), newKey(), newKey()];
      for (const [key, n] of [
        [a, 2],
        [b, 3],
      ] as const) {
        await call('wg-apply', name, key, `10.96.0.${n}/32`);
      }
      const before = await held();
      const two = `10.96.0.4/32\n[Peer]\nPublicKey = ${a}\nAllowedIPs = 10.96.0.5/32`;
      expect((await call('wg-apply', name, c, two)).code).toBe(76);
      expect(
        (await call('wg-apply', name, `${c}\nAllowedIPs = 10.96.0.4/32\n[Peer]\nPublicKey = ${a}`, '10.96.0.5/32'))
          .code,
      ).toBe(76);
      expect((await call('wg-remove', name, `${a}\nremove\npeer\n${b}`)).code).toBe(76);
      expect(await held()).toEqual(before);
    });

    test('wg-gen-key leaves a pair that only root may read and prints where', async () => {
      const { stdout } = await call('wg-gen-key', keyDirectory, 'phone');
      const publicKey = /^PUBLIC=(.*)$/m.exec(stdout)?.[1];
      expect(stdout).toBe(`PRIVATE=${keyDirectory}/phone.key\nPUBLIC=${publicKey}\n`);
      const privateKey = (await readFile(`${keyDirectory}/phone.key`, 'utf8')).trim();
      expect(derivePublicKey(privateKey as PrivateKey)).toBe(publicKey);
      const { stdout: modes } = await run('stat', ['-c', '%a %U', keyDirectory, `${keyDirectory}/phone.key`]);
      expect(modes).toBe('700 root\n600 root\n');
    });

    test('a pair is made anew until its peer is on an interface; from then on it is told again', async () => {
      const made = [await call('wg-gen-key', keyDirectory, 'phone'), await call('wg-gen-key', keyDirectory, 'phone')];
      expect(made[0]?.stdout).not.toBe(made[1]?.stdout);
      const publicKey = /^PUBLIC=(.*)$/m.exec(made[1]?.stdout ?? '')?.[1] as string;
      await call('wg-apply', name, publicKey, '10.96.0.2/32');
      expect(await call('wg-gen-key', keyDirectory, 'phone')).toEqual(made[1]);
      await call('wg-remove', name, publicKey);
      expect(await readdir(keyDirectory)).toEqual([]);
    });
  });

  describe('making the keys', () => {
    let driver: ShellDriver;
    const asked = (n: number): SetPeer => ({
      type: 'set',
      publicKey: null,
      presharedKey: generatePresharedKey(),
      addresses: [`10.96.1.${n}/32`],
      tag: `device-${n}`,
    });
    const reportedKey = (result: ChangeResult | undefined) =>
      result?.outcome === 'applied' ? result.reported?.publicKey : undefined;

    beforeEach(() => {
      driver = openSshDriver({ ...sshd.kit, interface: name, privilege: 'kit', keys: 'reported' });
    });
    afterEach(() => driver[Symbol.asyncDispose]());

    describe('the driver conforms', () => {
      const subject = async () => ({
        driver,
        pool: POOL,
        addresses: 'given' as const,
        // A pair is two files and a process or two each.
        manyPeers: 100,
        addForeignPeer: (address: string) => wireguard.addForeignPeer(address),
        [Symbol.asyncDispose]: clear,
      });
      for (const check of conformanceChecks.filter(({ keys }) => keys.includes('reported'))) {
        test(check.name, () => check.run(subject));
      }
    });

    test('the pair that is reported belongs together and is the one on the interface, under its name', async () => {
      const [result] = await driver.apply([asked(2)], signal());
      if (result?.outcome !== 'applied' || !result.reported?.privateKey) throw new Error('no key was reported');
      const { privateKey, publicKey, addresses } = result.reported;
      expect(derivePublicKey(privateKey)).toBe(publicKey);
      expect(addresses).toEqual(['10.96.1.2/32']);
      expect(await driver.list(signal())).toMatchObject([{ publicKey, tag: 'device-2', allowedIps: addresses }]);
    });

    test('a key whose answer was lost is found by its name and told again', async () => {
      const [first] = await driver.apply([asked(2)], signal());
      // Whoever asked never heard of it: it asks again, and by name the peer is known to be its own.
      const [again] = await driver.apply([asked(2)], signal());
      expect(reportedKey(again)).toBe(reportedKey(first));
      expect(await wireguard.dump()).toHaveLength(1);
    });

    test('after a removal the same name gets a new key', async () => {
      const [first] = await driver.apply([asked(2)], signal());
      const publicKey = reportedKey(first);
      if (publicKey === undefined) throw new Error('no key was reported');
      const [, second] = await driver.apply([{ type: 'remove', publicKey, tag: 'device-2' }, asked(2)], signal());
      expect(reportedKey(second)).not.toBe(publicKey);
      expect((await wireguard.dump()).map((peer) => peer.publicKey)).toEqual([reportedKey(second)]);
    });

    test('a name that cannot be a file is refused by itself', async () => {
      const results = await driver.apply(
        [{ ...asked(2), tag: '../../x' }, { ...asked(3), tag: '-rf' }, asked(4)],
        signal(),
      );
      expect(results.map(({ outcome }) => outcome)).toEqual(['failed', 'failed', 'applied']);
    });
  });
});
