import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addressAt, parsePool } from '../../src/address.ts';
import { conformanceChecks } from '../../src/conformance.ts';
import { diffPeers } from '../../src/diff.ts';
import type { SetPeer, WgDriver } from '../../src/driver.ts';
import { generateKeyPair, generatePresharedKey, type PublicKey } from '../../src/keys.ts';
import { knownHostFingerprints } from '../../src/shell/known-hosts.ts';
import { ShellDriver } from '../../src/shell/shell-driver.ts';
import { openSshDriver } from '../../src/shell/ssh.ts';
import { SshTransport } from '../../src/shell/ssh-transport.ts';
import type { Transport } from '../../src/shell/transport.ts';
import { makeSshKey } from '../recording-sshd.ts';
import { type SshdLab, skipWithoutSshd, startSshdLab } from '../sshd-lab.ts';
import { startWireguardLab, type WireguardLab } from '../wireguard-lab.ts';

const run = promisify(execFile);
const POOL = '10.98.0.0/16';
const signal = () => AbortSignal.timeout(60_000);

describe.skipIf(skipWithoutSshd())('a real host over SSH', () => {
  let wireguard: WireguardLab;
  let sshd: SshdLab;

  beforeAll(async () => {
    wireguard = await startWireguardLab({ poolV4: POOL });
    sshd = await startSshdLab({ interface: wireguard.interface });
  });

  afterAll(async () => {
    await sshd?.[Symbol.asyncDispose]();
    await wireguard?.[Symbol.asyncDispose]();
  });

  const open = (privilege: 'direct' | 'sudo' | 'kit') => {
    const target = { direct: sshd.root, sudo: sshd.sudo, kit: sshd.kit }[privilege];
    return openSshDriver({ ...target, interface: wireguard.interface, privilege });
  };

  const clear = async (driver: WgDriver) => {
    const peers = await driver.list(signal());
    await driver.apply(
      peers.map(({ publicKey }) => ({ type: 'remove', publicKey, tag: null })),
      signal(),
    );
  };

  const newPeer = (index: number): SetPeer & { publicKey: PublicKey } => ({
    type: 'set',
    publicKey: generateKeyPair().publicKey,
    presharedKey: generatePresharedKey(),
    addresses: [`${addressAt(parsePool(POOL), index)}/32`],
    tag: `p${index}`,
  });

  describe.each([
    ['root', 'direct'],
    ['an account with sudo for wg', 'sudo'],
    ['an account whose key has the forced command of the host kit', 'kit'],
  ] as const)('as %s', (_, privilege) => {
    let driver: ShellDriver;
    beforeAll(() => {
      driver = open(privilege);
    });
    afterAll(() => driver[Symbol.asyncDispose]());
    const subject = async () => ({
      driver,
      pool: POOL,
      manyPeers: 2000,
      addForeignPeer: (address: string) => wireguard.addForeignPeer(address),
      [Symbol.asyncDispose]: () => clear(driver),
    });

    describe('the driver conforms', () => {
      for (const check of conformanceChecks.filter(({ keys }) => keys.includes('given'))) {
        test(check.name, () => check.run(subject));
      }
    });

    test('describe tells the key and the port', async () => {
      const { publicKey, listenPort } = wireguard;
      expect(await driver.describe(signal())).toEqual({ publicKey, listenPort });
    });

    test('ten thousand peers: put there, compared, a thousand changed, five hundred drifts repaired and nothing else', async () => {
      const target = { direct: sshd.root, sudo: sshd.sudo, kit: sshd.kit }[privilege];
      const counting = new CountingTransport(new SshTransport(target));
      await using counted = new ShellDriver({
        kind: 'ssh',
        transport: counting,
        interface: wireguard.interface,
        privilege,
      });
      const peers = Array.from({ length: 10_000 }, (_, n) => newPeer(n + 2));
      const ours = new Set(peers.map(({ publicKey }) => publicKey));
      const desired = peers.map(({ type: _, ...peer }) => ({ ...peer, state: 'present' as const }));
      const compare = async (wanted = desired) =>
        diffPeers({ desired: wanted, observed: await counted.list(signal()), ours });
      await timed(`${privilege}: 10 000 peers added`, async () => counted.apply((await compare()).changes, signal()));

      const start = performance.now();
      const same = await timed(`${privilege}: full compare of 10 000`, () => compare());
      expect(same).toMatchObject({ changes: [], unchanged: 10_000, conflicts: [] });

      const changed = desired.map((peer, n) =>
        n % 10 === 0 ? { ...peer, presharedKey: generatePresharedKey() } : peer,
      );
      counting.writes.length = 0;
      await timed(`${privilege}: compare and 1 000 changes`, async () =>
        counted.apply((await compare(changed)).changes, signal()),
      );
      expect(counting.writes).toEqual([1_000]);
      // Two compares and the change; they take a fifth of it on an idle machine.
      expect(performance.now() - start).toBeLessThan(5_000);

      // By hand, on the host: deleted, emptied, given another address or key.
      const drifts = changed.filter((_, n) => n % 20 === 7).slice(0, 500);
      await driftByHand(wireguard.interface, drifts);
      counting.writes.length = 0;
      const repair = await compare(changed);
      expect(new Set(repair.changes.map(({ publicKey }) => publicKey))).toEqual(
        new Set(drifts.map(({ publicKey }) => publicKey)),
      );
      expect(repair).toMatchObject({ unchanged: 9_500, conflicts: [] });
      const repaired = await timed(`${privilege}: 500 drifts repaired`, () => counted.apply(repair.changes, signal()));
      expect(repaired.every(({ outcome }) => outcome === 'applied')).toBe(true);
      expect(counting.writes).toEqual([500]);
      expect(await compare(changed)).toMatchObject({ changes: [], unchanged: 10_000 });
      await counted.apply((await compare([])).changes, signal());
      expect(await wireguard.dump()).toEqual([]);
    });
  });

  test('a missing interface is told from a refusal, with every privilege', async () => {
    for (const [target, privilege] of [
      [sshd.root, 'direct'],
      [sshd.sudo, 'sudo'],
    ] as const) {
      await using driver = openSshDriver({ ...target, interface: 'wg-not-there', privilege });
      await expect(driver.list(signal())).rejects.toMatchObject({ code: 'interface_missing' });
      await expect(driver.apply([newPeer(2)], signal())).rejects.toMatchObject({ code: 'interface_missing' });
    }
    // The kit is tied to its interface and does not even look for another.
    await using driver = openSshDriver({ ...sshd.kit, interface: 'wg-not-there', privilege: 'kit' });
    await expect(driver.list(signal())).rejects.toMatchObject({ code: 'interface_missing' });
  });

  test('an account without rights is refused', async () => {
    await using driver = openSshDriver({ ...sshd.sudo, interface: wireguard.interface, privilege: 'direct' });
    await expect(driver.describe(signal())).rejects.toMatchObject({ name: 'DriverError' });
    await expect(driver.apply([newPeer(2)], signal())).rejects.toMatchObject({ name: 'DriverError' });
    expect(await wireguard.dump()).toEqual([]);
  });

  test('twenty commands at once pass over one connection, though sshd lets ten in', async () => {
    const relay = await sshd.cuttable();
    await using transport = new SshTransport({ ...sshd.root, port: relay.port });
    const results = await Promise.all(Array.from({ length: 20 }, (_, n) => transport.run('cat', `${n}`, signal())));
    expect(results.map(({ code, stdout }) => [code, stdout])).toEqual(results.map((_, n) => [0, `${n}`]));
    expect(relay.connections()).toBe(1);
  });

  test('thirty hosts at once get in, though sshd drops some connections', async () => {
    const transports = Array.from({ length: 30 }, () => new SshTransport(sshd.root));
    try {
      const results = await Promise.all(transports.map((transport) => transport.run('exit 7', '', signal())));
      expect(new Set(results.map(({ code }) => code))).toEqual(new Set([7]));
    } finally {
      await Promise.all(transports.map((transport) => transport[Symbol.asyncDispose]()));
    }
  });

  test('a command that is killed, or whose connection is cut, has no exit code', async () => {
    const relay = await sshd.cuttable();
    await using transport = new SshTransport({ ...sshd.root, port: relay.port });
    expect(await transport.run('kill -9 $$', '', signal())).toMatchObject({ code: null });
    // Cut as soon as the command is known to run.
    const directory = await mkdtemp(join(tmpdir(), 'ssh-cut-'));
    try {
      const mark = join(directory, 'started');
      const running = transport.run(`: > ${mark}; sleep 60`, '', signal());
      await expect
        .poll(() =>
          run('test', ['-e', mark]).then(
            () => true,
            () => false,
          ),
        )
        .toBe(true);
      relay.cutAll();
      expect(await running).toMatchObject({ code: null });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
    expect(await transport.run('echo back', '', signal())).toMatchObject({ code: 0, stdout: 'back\n' });
  });

  test('the pinned key may be any of those that the host has', async () => {
    expect(new Set(sshd.fingerprints).size).toBe(3);
    for (const fingerprint of sshd.fingerprints) {
      await using transport = new SshTransport({ ...sshd.root, hostFingerprints: [fingerprint] });
      expect(await transport.run('exit 5', '', signal())).toMatchObject({ code: 5 });
    }
  });

  test('a host none of whose keys is pinned is refused, and the message tells them all', async () => {
    await using transport = new SshTransport({ ...sshd.root, hostFingerprints: [`SHA256:${'A'.repeat(43)}`] });
    const error = await transport.run('exit 5', '', signal()).catch((thrown: Error) => thrown);
    expect(error).toMatchObject({ code: 'auth_failed' });
    for (const fingerprint of sshd.fingerprints) expect((error as Error).message).toContain(fingerprint);
  });

  test('fingerprints come from a known_hosts file, hashed or not', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'known-hosts-'));
    try {
      const sorted = (text: string, port: number) => knownHostFingerprints(text, '127.0.0.1', port).toSorted();
      const { stdout: scanned } = await run('ssh-keyscan', ['-p', `${sshd.root.port}`, '127.0.0.1']);
      const file = join(directory, 'known_hosts');
      await writeFile(file, scanned);
      expect(sorted(scanned, sshd.root.port)).toEqual(sshd.fingerprints.toSorted());
      await run('ssh-keygen', ['-q', '-H', '-f', file]);
      const { stdout: hashed } = await run('cat', [file]);
      expect(hashed).toMatch(/^\|1\|/);
      expect(sorted(hashed, sshd.root.port)).toEqual(sshd.fingerprints.toSorted());
      expect(sorted(hashed, 22)).toEqual([]);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  test.each([
    ['ed25519', ['-t', 'ed25519', '-N', '']],
    ['encrypted ed25519', ['-t', 'ed25519', '-N', 'a pass phrase']],
    ['RSA', ['-t', 'rsa', '-b', '2048', '-N', '']],
    ['encrypted RSA in PEM', ['-t', 'rsa', '-b', '2048', '-m', 'PEM', '-N', 'a pass phrase']],
    ['ECDSA', ['-t', 'ecdsa', '-N', '']],
  ])('a key file of ssh-keygen is taken: %s', async (_, args) => {
    const directory = await mkdtemp(join(tmpdir(), 'ssh-key-'));
    try {
      await run('ssh-keygen', ['-q', ...args, '-f', join(directory, 'id')]);
      const { stdout: privateKey } = await run('cat', [join(directory, 'id')]);
      const { stdout: publicKey } = await run('cat', [join(directory, 'id.pub')]);
      await sshd.authorize(publicKey.trim());
      const passphrase = args.at(-1) === '' ? undefined : 'a pass phrase';
      await using transport = new SshTransport({ ...sshd.sudo, privateKey, passphrase });
      expect(await transport.run('id -un', '', signal())).toMatchObject({ code: 0, stdout: `${sshd.user}\n` });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  test('an agent may hold the key', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'ssh-agent-'));
    const socket = join(directory, 'agent.sock');
    const { stdout } = await run('ssh-agent', ['-s', '-a', socket]);
    const pid = Number(/SSH_AGENT_PID=(\d+)/.exec(stdout)?.[1]);
    try {
      const { privateKey, publicKey } = makeSshKey();
      await sshd.authorize(publicKey);
      await writeFile(join(directory, 'id'), privateKey);
      await chmod(join(directory, 'id'), 0o600);
      await using options = new SshTransport({ ...sshd.sudo, privateKey: undefined, agent: socket });
      await expect(options.run('true', '', signal())).rejects.toMatchObject({ code: 'auth_failed' });
      await run('ssh-add', ['-q', join(directory, 'id')], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
      await using transport = new SshTransport({ ...sshd.sudo, privateKey: undefined, agent: socket });
      expect(await transport.run('id -un', '', signal())).toMatchObject({ code: 0, stdout: `${sshd.user}\n` });
    } finally {
      process.kill(pid);
      await rm(directory, { recursive: true, force: true });
    }
  });
});

/** Counts what a driver changes: an entry for each command that writes, the number of peers it names. */
class CountingTransport implements Transport {
  readonly writes: number[] = [];
  readonly #inner: Transport;

  constructor(inner: Transport) {
    this.#inner = inner;
  }

  run(command: string, stdin: string, signal: AbortSignal) {
    if (stdin !== '') this.writes.push((stdin.match(/^(?:\[Peer\]|peer)$/gm) ?? []).length);
    return this.#inner.run(command, stdin, signal);
  }

  [Symbol.asyncDispose]() {
    return this.#inner[Symbol.asyncDispose]();
  }
}

/** A fifth each: removed, without address, with another address, with another preshared key, with none. */
async function driftByHand(name: string, peers: readonly { readonly publicKey: PublicKey }[]): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'drift-'));
  try {
    const psk = join(directory, 'psk');
    await writeFile(psk, generatePresharedKey());
    const edits = [
      () => ['remove'],
      () => ['allowed-ips', ''],
      (n: number) => ['allowed-ips', `10.200.${Math.floor(n / 250)}.${n % 250}/32`],
      () => ['preshared-key', psk],
      () => ['preshared-key', '/dev/null'],
    ];
    const args = peers.map(({ publicKey }, n) => ['peer', publicKey, ...(edits[n % edits.length]?.(n) ?? [])]);
    for (let at = 0; at < args.length; at += 100) await run('wg', ['set', name, ...args.slice(at, at + 100).flat()]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Shown with `--silent=false`. */
async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work();
  process.stdout.write(`${what}: ${Math.round(performance.now() - start)} ms\n`);
  return result;
}
