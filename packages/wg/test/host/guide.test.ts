import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import type { SetPeer } from '../../src/driver.ts';
import { generateKeyPair } from '../../src/keys.ts';
import { openSshDriver } from '../../src/shell/ssh.ts';
import { codeBlocks, runTool } from '../package.ts';
import { makeSshKey, type SshKey } from '../recording-sshd.ts';
import { skipWithoutSshd } from '../sshd-lab.ts';
import { startWireguardLab } from '../wireguard-lab.ts';

const KIT = fileURLToPath(new URL('../../host', import.meta.url));
const signal = () => AbortSignal.timeout(30_000);

test.skipIf(skipWithoutSshd())(
  'who follows the install guide word for word has a host that only its key can keep',
  async () => {
    const [guide = '', ...others] = codeBlocks(await readFile(join(KIT, 'README.md'), 'utf8'), 'sh');
    expect(others).toEqual([]);
    expect(guide.trim().split('\n').length).toBeLessThanOrEqual(10);

    await using wireguard = await startWireguardLab({ poolV4: '10.90.0.0/24' });
    const key = makeSshKey();
    await using host = await followGuide(guide, { interface: wireguard.interface, key });
    // The last line of the guide tells what to pin.
    const [, fingerprint = ''] = /^256 (SHA256:\S+) .*\(ED25519\)$/m.exec(host.output) ?? [];
    const target = { host: '127.0.0.1', port: host.port, user: 'vpn', privateKey: key.privateKey };
    const options = { ...target, hostFingerprints: [fingerprint], interface: wireguard.interface } as const;

    await using driver = openSshDriver({ ...options, privilege: 'kit' });
    const { publicKey, listenPort } = wireguard;
    expect(await driver.describe(signal())).toEqual({ publicKey, listenPort });
    const peer: SetPeer = {
      type: 'set',
      publicKey: generateKeyPair().publicKey,
      presharedKey: null,
      addresses: ['10.90.0.14/32'],
      tag: 'one',
    };
    expect(await driver.apply([peer], signal())).toEqual([{ outcome: 'applied' }]);
    expect(await wireguard.dump()).toMatchObject([{ publicKey: peer.publicKey, allowedIps: peer.addresses }]);
    await using maker = openSshDriver({ ...options, privilege: 'kit', keys: 'reported' });
    const made = { ...peer, publicKey: null, addresses: ['10.90.0.15/32'], tag: 'two' };
    expect(await maker.apply([made], signal())).toMatchObject([{ outcome: 'applied' }]);

    // With what OpenSSH has to try: no shell, no terminal, no tunnel, no other interface, no sudo of its own.
    const ssh = (...args: string[]) =>
      runTool('ssh', [...host.sshOptions, '-p', `${host.port}`, 'vpn@127.0.0.1', ...args], { cwd: tmpdir() });
    expect(await ssh('wg-batch', 'describe', wireguard.interface)).toMatchObject({
      exitCode: 0,
      stdout: `${publicKey}\n${listenPort}\n`,
    });
    expect(await ssh('wg-batch', 'list', 'wg0')).toMatchObject({ exitCode: 77, stdout: '' });
    for (const command of ['', 'id', 'sudo -n wg show', 'wg-batch interfaces; id']) {
      expect(await ssh(command), command).toMatchObject({ exitCode: 64, stdout: '' });
    }
    expect(await ssh('-W', `127.0.0.1:${host.port}`)).toMatchObject({ exitCode: 255, stdout: '' });
    await driver.apply(
      (await driver.list(signal())).map((one) => ({ ...one, type: 'remove', tag: null })),
      signal(),
    );
    expect(await wireguard.dump()).toEqual([]);
  },
);

interface GuidedHost extends AsyncDisposable {
  /** What the lines of the guide printed. */
  readonly output: string;
  readonly port: number;
  /** The key, and the host to expect, for `ssh`. */
  readonly sshOptions: readonly string[];
}

/**
 * A machine to follow the guide on, with the sshd of the distribution as it is configured there: a mount namespace whose
 * directories take every change and keep none.
 */
async function followGuide(
  guide: string,
  { interface: name, key }: { readonly interface: string; readonly key: SshKey },
): Promise<GuidedHost> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'guide-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  stack.defer(async () => {
    const files = [`/etc/wireguard/${name}.keys`, `/run/wg-batch.${name}.lock`];
    for (const file of files) await rm(file, { recursive: true, force: true });
  });
  const port = await freePort();
  const lines = guide.replaceAll('wg0', name).replace('ssh-ed25519 AAAA…', key.publicKey);
  const [script, output, identity, known] = ['script', 'output', 'id', 'known_hosts'].map((file) =>
    join(directory, file),
  );
  await writeFile(`${identity}`, key.privateKey, { mode: 0o600 });
  await writeFile(`${script}`, namespaceScript({ lines, directory, port, output: `${output}` }));

  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-eu', `${script}`], {
    stdio: 'ignore',
  });
  const ended = once(child, 'close');
  stack.defer(async () => {
    child.kill('SIGTERM');
    await ended;
  });
  for (let tries = 0; !(await answers(port)); tries += 1) {
    if (tries > 400 || child.exitCode !== null)
      throw new Error(`the guide fails:\n${await readFile(`${output}`, 'utf8')}`);
    await sleep(25);
  }
  const { stdout } = await runTool('ssh-keyscan', ['-t', 'ed25519', '-p', `${port}`, '127.0.0.1'], { cwd: directory });
  await writeFile(`${known}`, stdout);
  const ours = ['-F', 'none', '-i', `${identity}`, '-o', `UserKnownHostsFile=${known}`, '-o', 'BatchMode=yes'];
  const owned = stack.move();
  return {
    output: await readFile(`${output}`, 'utf8'),
    port,
    sshOptions: ours,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

interface NamespaceInput {
  readonly lines: string;
  readonly directory: string;
  readonly port: number;
  readonly output: string;
}

/** `set -e` is on: a line of the guide that fails is the end. */
function namespaceScript({ lines, directory, port, output }: NamespaceInput): string {
  return `exec >${output} 2>&1
mkdir ${directory}/over
mount -t tmpfs tmpfs ${directory}/over
for place in etc usr/local home; do
  mkdir -p ${directory}/over/$place/upper ${directory}/over/$place/work
  mount -t overlay overlay -o lowerdir=/$place,upperdir=${directory}/over/$place/upper,workdir=${directory}/over/$place/work /$place
done
ssh-keygen -A
mkdir -p /run/sshd
cd ${KIT}
${lines}
cd /
exec /usr/sbin/sshd -D -e -o Port=${port} -o ListenAddress=127.0.0.1 -o PidFile=none
`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
