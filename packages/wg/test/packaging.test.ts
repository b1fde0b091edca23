import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { verify } from '@node-rs/bcrypt';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseClientConfig } from '../src/client-config.ts';
import { generateKeyPair } from '../src/keys.ts';
import { codeBlocks, type Manifest, type PackedPackage, packPackage, runTool } from './package.ts';
import { makeSshKey } from './recording-sshd.ts';
import { type SshdLab, type SshTarget, skipWithoutSshd, startSshdLab } from './sshd-lab.ts';
import { startWgEasyStub } from './wg-easy/stub.ts';
import { startWireguardLab, type WireguardLab } from './wireguard-lab.ts';

/** Building, packing and type checking take seconds even on a free machine. */
const SLOW_MS = 180_000;
/** What the pages call their hosts. */
const WG_EASY = 'http://10.0.0.5:51821';
const SSH_HOST = 'vpn.example.com';

let packed: PackedPackage;
let readme: string;
let examples: Readonly<Record<'local' | 'wgEasy' | 'ssh' | 'conformance' | 'testing', string>>;

beforeAll(async () => {
  packed = await packPackage();
  await writeFile(join(packed.project, 'package.json'), '{ "private": true, "type": "module" }');
  readme = await readFile(join(packed.directory, 'README.md'), 'utf8');
  const [local = '', wgEasy = '', ssh = '', conformance = '', testing = '', ...others] = codeBlocks(readme, 'ts');
  expect(others).toEqual([]);
  examples = { local, wgEasy, ssh, conformance, testing };
}, SLOW_MS);

afterAll(() => packed?.[Symbol.asyncDispose]());

/** Compiles an example and runs it in the project. */
async function runExample(name: string, code: string, env: Record<string, string> = {}) {
  const { project } = packed;
  await writeFile(join(project, `${name}.ts`), code);
  const compiled = await compile([`${name}.ts`], ['--outDir', 'out']);
  expect(compiled).toBe('');
  return runTool('node', [`out/${name}.js`], { cwd: project, env });
}

/** What the compiler says when it looks at every declaration of the package, too. */
async function compile(files: readonly string[], more: readonly string[]): Promise<string> {
  const options = [
    '--target',
    'es2022',
    '--lib',
    'es2024,esnext.disposable',
    '--module',
    'nodenext',
    '--types',
    'node',
  ];
  const strict = ['--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', '--skipLibCheck', 'false'];
  const { stdout, stderr } = await runTool('tsc', [...files, ...options, ...strict, ...more], { cwd: packed.project });
  return stdout + stderr;
}

describe('the packed package', () => {
  test('holds the build, the host kit, its README and its licence, and nothing else', async () => {
    expect((await readdir(packed.directory)).sort()).toEqual(['LICENSE', 'README.md', 'dist', 'host', 'package.json']);
    const kit = ['README.md', 'wg-apply', 'wg-batch', 'wg-gen-key', 'wg-remove'];
    expect((await readdir(join(packed.directory, 'host'))).sort()).toEqual(kit);
    for (const script of [...kit.slice(1).map((name) => `host/${name}`), 'dist/cli/main.js']) {
      expect((await stat(join(packed.directory, script))).mode & 0o111, script).toBe(0o111);
    }
  });

  test('imports nothing but Node and the packages that it asks for, and needs no newer Node than it says', async () => {
    const { dependencies, engines } = JSON.parse(await readFile(join(packed.directory, 'package.json'), 'utf8'));
    const dist = join(packed.directory, 'dist');
    const files = (await readdir(dist, { recursive: true })).filter((name) => /\.(?:js|d\.ts)$/.test(name));
    for (const file of files) {
      const text = await readFile(join(dist, file), 'utf8');
      const modules = [...text.matchAll(/(?:^import .*?from |^import |import\()["']([^"'.][^"']*)["']/gm)];
      const foreign = modules.map(([, name]) => name ?? '').filter((name) => !name.startsWith('node:'));
      expect(Object.keys(dependencies), file).toEqual(expect.arrayContaining(foreign));
    }
    expect(files.length).toBeGreaterThan(10);
    for (const name of Object.keys(dependencies)) {
      const path = join(packed.project, 'node_modules', name, 'package.json');
      const theirs = (JSON.parse(await readFile(path, 'utf8')) as Partial<Manifest>).engines?.node;
      expect(lowestNode(theirs), name).toBeLessThanOrEqual(lowestNode(engines.node));
    }
  });

  test('passes publint', async () => {
    const { messages, pkg } = await publint({ pkgDir: packed.directory, strict: true, pack: false });
    expect(messages.map((message) => formatMessage(message, pkg as Record<string, unknown>))).toEqual([]);
  });

  test('every entry resolves to code with types for who imports ES modules', async () => {
    const args = [packed.tarball, '--no-color', '--profile', 'esm-only'];
    const { exitCode, stdout } = await runTool('attw', args, { cwd: packed.project });
    expect({ exitCode, stdout: exitCode === 0 ? '' : stdout }).toEqual({ exitCode: 0, stdout: '' });
  });

  test(
    'has declarations without an error in them, with every strict option',
    async () => {
      const entries = ['', '/address', '/diff', '/conformance', '/testing'].map((entry) => `@vpn-api/wg${entry}`);
      const lines = entries.map((entry, n) => `export * as entry${n} from '${entry}';`);
      await writeFile(join(packed.project, 'entries.ts'), lines.join('\n'));
      expect(await compile(['entries.ts'], ['--noEmit'])).toBe('');
    },
    SLOW_MS,
  );
});

describe('the examples of the README', () => {
  test.each([14, 15] as const)(
    'drive a wg-easy %i',
    async (version) => {
      await using stub = await startWgEasyStub({ version, clients: ['by hand'] });
      const code = examples.wgEasy.replace(WG_EASY, stub.url).replace('10.0.0.0/8', '127.0.0.0/8');
      const { stdout, stderr } = await runExample('wg-easy', code, { WG_EASY_PASSWORD: stub.password });
      expect(stderr).toBe('');
      const [client] = stub.named('phone');
      expect(parseClientConfig(stdout)).toMatchObject({
        privateKey: client?.privateKey,
        publicKey: stub.server.publicKey,
        endpoint: 'vpn.example.com:51820',
        persistentKeepalive: 25,
      });
    },
    SLOW_MS,
  );

  test(
    'test a driver with any runner, and what speaks to a wg-easy without one',
    async () => {
      const conformance = await runExample('conformance', examples.conformance);
      expect(conformance).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/pass 1\d\n[\s\S]*fail 0\n/) });
      const testing = await runExample('testing', examples.testing);
      expect(testing).toEqual({ exitCode: 0, stdout: "[ 'made by hand' ]\n", stderr: '' });
    },
    SLOW_MS,
  );
});

describe('the installed vpn-wg', () => {
  test('prints a hash that bcrypt takes, once more with doubled dollars', async () => {
    const command = 'echo "$PASSWORD" | vpn-wg hash-password';
    const env = { PASSWORD: 'correct horse' };
    const { stdout } = await runTool('sh', ['-c', command], { cwd: packed.project, env });
    const [, hash = ''] = /^PASSWORD_HASH='(\$2b\$12\$.{53})'$/m.exec(stdout) ?? [];
    expect(await verify('correct horse', hash)).toBe(true);
    expect(stdout).toContain(`\nPASSWORD_HASH=${hash.replaceAll('$', '$$$$')}\n`);
  });

  test('does not mind a reader that has seen enough', async () => {
    await using stub = await startWgEasyStub({ version: 14, clients: 1 });
    const env = { WG_EASY_PASSWORD: stub.password };
    const command = `{ vpn-wg list ${stub.url}; echo "exit $?" >&2; } | true`;
    expect((await runTool('sh', ['-c', command], { cwd: packed.project, env })).stderr).toBe('exit 0\n');
  });
});

describe.skipIf(skipWithoutSshd())('on real hosts', () => {
  const POOL = '10.91.0.0/24';
  let wireguard: WireguardLab;
  let sshd: SshdLab;
  /** With the keys and known hosts of one account of the lab each. */
  let homes: Readonly<Record<'root' | 'kit' | 'sudo', string>>;

  beforeAll(async () => {
    wireguard = await startWireguardLab({ poolV4: POOL });
    sshd = await startSshdLab({ interface: wireguard.interface });
    const [root, sudo, kit] = await Promise.all([makeHome(sshd.root), makeHome(sshd.sudo), makeHome(sshd.kit)]);
    homes = { root, sudo, kit };
  }, SLOW_MS);

  afterAll(async () => {
    await sshd?.[Symbol.asyncDispose]();
    await wireguard?.[Symbol.asyncDispose]();
  });

  /** As OpenSSH leaves them behind. */
  async function makeHome({ port, user, privateKey }: Pick<SshTarget, 'port' | 'user' | 'privateKey'>) {
    const home = join(packed.project, `home-${user}-${Math.random()}`);
    await mkdir(join(home, '.ssh'), { recursive: true, mode: 0o700 });
    await writeFile(join(home, '.ssh/id_ed25519'), privateKey, { mode: 0o600 });
    const { stdout } = await runTool('ssh-keyscan', ['-p', `${port}`, '127.0.0.1'], { cwd: home });
    await writeFile(join(home, '.ssh/known_hosts'), stdout);
    return home;
  }

  const here = (text: string) =>
    text
      .replaceAll(`ssh://root@${SSH_HOST}/wg0`, `ssh://root@127.0.0.1:${sshd.root.port}/${wireguard.interface}`)
      .replaceAll(`ssh://vpn@${SSH_HOST}/wg0`, `ssh://${sshd.user}@127.0.0.1:${sshd.root.port}/${wireguard.interface}`)
      .replaceAll('10.8.0.0/24', POOL)
      .replaceAll('npx vpn-wg', 'vpn-wg')
      .replaceAll(/\bwg0\b/g, wireguard.interface);

  const team = () => {
    const { publicKey } = generateKeyPair();
    return { publicKey, peer: { name: 'one', key: publicKey, address: '10.91.0.14/32' } };
  };

  test(
    'the README keeps an interface of this machine and a host over SSH',
    async () => {
      const local = await runExample('local', here(examples.local));
      expect(local).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^1 changes, 0 foreign peers, 0/) });
      const config = parseClientConfig(local.stdout.slice(local.stdout.indexOf('[Interface]')));
      expect((await wireguard.dump()).map(({ allowedIps }) => allowedIps)).toEqual([config.addresses]);

      const { publicKey, peer } = team();
      await writeFile(join(packed.project, 'team.json'), JSON.stringify([peer]));
      const code = here(examples.ssh)
        .replace(`host: '${SSH_HOST}'`, `host: '127.0.0.1'`)
        .replace('port: 22', `port: ${sshd.sudo.port}`)
        .replace("user: 'vpn'", `user: '${sshd.user}'`)
        .replace(`'${SSH_HOST}')`, `'127.0.0.1', ${sshd.sudo.port})`);
      expect(await runExample('ssh', code, { HOME: homes.sudo })).toEqual({ exitCode: 0, stdout: '', stderr: '' });
      expect((await wireguard.dump()).find((one) => one.publicKey === publicKey)?.allowedIps).toEqual([peer.address]);
      for (const { publicKey: key } of await wireguard.dump()) await wireguard.removePeer(key);
    },
    SLOW_MS,
  );

  test(
    'vpn-wg takes the key that an agent has, where the usual file is encrypted or names nobody',
    async () => {
      const socket = join(packed.project, 'agent.sock');
      const { stdout } = await runTool('ssh-agent', ['-s', '-a', socket], { cwd: packed.project });
      try {
        const env = { SSH_AUTH_SOCK: socket };
        await runTool('ssh-add', ['-q', join(homes.sudo, '.ssh/id_ed25519')], { cwd: packed.project, env });
        const { port, user } = sshd.sudo;
        for (const { privateKey } of [makeSshKey('a passphrase'), makeSshKey()]) {
          const HOME = await makeHome({ port, user, privateKey });
          const args = ['list', `ssh://${user}@127.0.0.1:${port}/${wireguard.interface}`];
          const listed = await runTool('vpn-wg', args, { cwd: packed.project, env: { ...env, HOME } });
          expect(listed).toMatchObject({ exitCode: 0, stderr: '' });
        }
      } finally {
        process.kill(Number(/SSH_AGENT_PID=(\d+)/.exec(stdout)?.[1]));
      }
    },
    SLOW_MS,
  );

  test(
    'every command line of the README does what it says',
    async () => {
      await using stub = await startWgEasyStub({ version: 15, clients: ['by hand'] });
      const { publicKey } = generateKeyPair();
      const peers = [{ name: 'one', public_key: publicKey, addresses: ['10.91.0.99'] }];
      await writeFile(join(packed.project, 'team.json'), JSON.stringify({ peers }));
      const run = (line: string) =>
        runTool('sh', ['-c', here(line).replaceAll(WG_EASY, stub.url)], {
          cwd: packed.project,
          env: {
            HOME: line.includes('ssh://vpn@') ? homes.sudo : homes.root,
            SSH_AUTH_SOCK: '',
            WG_EASY_PASSWORD: stub.password,
            PASSWORD: 'geheim',
            KEY: publicKey,
          },
        });
      const lines = codeBlocks(readme, 'sh').join('').split('\n');
      const [list, addToWgEasy, addOverSsh, sync, remove, hash, ...others] = lines
        .filter((line) => line.includes('vpn-wg'))
        .map((line) => line.replace(/ +#.*$/, ''));
      expect(others).toEqual([]);

      expect(await run(list ?? '')).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('by hand') });
      expect(await run(addToWgEasy ?? '')).toEqual({ exitCode: 0, stdout: '', stderr: '' });
      const phone = parseClientConfig(await readFile(join(packed.project, 'phone.conf'), 'utf8'));
      expect(phone.privateKey).toBe(stub.named('phone')[0]?.privateKey);
      expect(await run(addOverSsh ?? '')).toEqual({ exitCode: 0, stdout: '', stderr: '' });
      const laptop = parseClientConfig(await readFile(join(packed.project, 'laptop.conf'), 'utf8'));
      expect(await wireguard.dump()).toMatchObject([{ allowedIps: laptop.addresses }]);
      expect((await run(sync ?? '')).stdout).toMatch(/^\+ set one .+\n1 changes to make\n$/);
      expect((await run((sync ?? '').replace('--dry-run', ''))).stdout).toContain('1 changes made, 0 peers were right');
      expect(await wireguard.dump()).toHaveLength(2);
      expect((await run(remove ?? '')).stdout).toBe(`removed ${publicKey}\n`);
      expect(await wireguard.dump()).toMatchObject([{ allowedIps: laptop.addresses }]);
      expect((await run(hash ?? '')).stdout).toContain('PASSWORD_HASH=');

      // The same account by the forced command of the host kit.
      const byKit = here(`npx vpn-wg sync ssh://vpn@${SSH_HOST}/wg0 team.json --privilege kit`);
      const env = { HOME: homes.kit, SSH_AUTH_SOCK: '' };
      const synced = await runTool('sh', ['-c', byKit], { cwd: packed.project, env });
      expect(synced).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('1 changes made') });
    },
    SLOW_MS,
  );
});

/** `>=22.19` as a number that can be compared; nothing is everything. */
function lowestNode(range = '>=0'): number {
  const [, major = '0', minor = '0'] = /^>=?\s*(\d+)(?:\.(\d+))?/.exec(range) ?? [];
  return Number(major) * 1000 + Number(minor);
}
