import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { verify } from '@node-rs/bcrypt';
import { expect, test } from 'vitest';
import { runCli } from '../../src/cli/cli.ts';
import { parseClientConfig } from '../../src/client-config.ts';
import { makeSshKey, RecordingSshd } from '../recording-sshd.ts';
import { startWgEasyStub } from '../wg-easy/stub.ts';

interface Run {
  readonly env?: Record<string, string>;
  readonly stdin?: string;
  /** Somebody sits in front of it. */
  readonly isTTY?: boolean;
}

async function run(args: readonly string[], { env = {}, stdin = '', isTTY = false }: Run = {}) {
  const written = { stdout: '', stderr: '' };
  const paper = (name: 'stdout' | 'stderr') => ({
    write: (text: string) => {
      written[name] += text;
    },
  });
  const input = Object.assign(Readable.from([stdin, ...(isTTY ? ['more\n'] : [])]), { isTTY });
  const world = { env, stdin: input, stdout: paper('stdout'), stderr: paper('stderr') };
  return { code: await runCli(args, world), ...written };
}

test('help is shown when asked for, and as an error when the command makes no sense', async () => {
  expect(await run(['--help'])).toMatchObject({ code: 0, stdout: expect.stringContaining('vpn-wg list HOST') });
  const wrong = [
    [],
    ['dance'],
    ['list'],
    ['list', 'wg0', 'more'],
    ['add', 'wg0'],
    ['sync', 'wg0'],
    ['add', 'wg0', 'a', 'b'],
  ];
  for (const args of wrong) {
    expect(await run(args), args.join(' ')).toMatchObject({ code: 2, stderr: expect.stringContaining('HOST  http') });
  }
  expect(await run(['list', '--nonsense'])).toMatchObject({ code: 2, stdout: '' });
});

test('a password comes by standard input, and its line end is no part of it', async () => {
  const { code, stdout } = await run(['hash-password'], { stdin: 'correct horse\n' });
  expect(code).toBe(0);
  expect(stdout).toMatch(/^PASSWORD_HASH='\$2b\$12\$.{53}'$/m);
});

test('somebody who types the password is asked for it and ends it with Enter', async () => {
  const { stdout, stderr } = await run(['hash-password'], { stdin: 'correct horse\n', isTTY: true });
  expect(stderr).toBe('password (it will be seen): ');
  const [, hash = ''] = /^PASSWORD_HASH='(.+)'$/m.exec(stdout) ?? [];
  expect(await verify('correct horse', hash)).toBe(true);
});

test('what cannot be an address, an interface or a fingerprint is said in a sentence', async () => {
  for (const host of ['0wg', 'all', 'ssh://root@vpn.example.com/wg%200', 'ssh://root@vpn.example.com/all']) {
    const { code, stderr } = await run(['list', host], { env: { SSH_AUTH_SOCK: '/nowhere' } });
    expect([code, stderr], host).toEqual([1, expect.stringMatching(/^the interface name must be .+\n$/)]);
  }
  const fingerprint = await run(['list', 'ssh://root@h/wg0', '--fingerprint', 'x'], {
    env: { SSH_AUTH_SOCK: '/nowhere' },
  });
  expect(fingerprint).toMatchObject({ code: 1, stderr: expect.stringMatching(/^a host fingerprint is SHA256.+\n$/) });
  // An IPv6 address is looked for as one, and not as a name.
  const v6 = await run(['list', 'ssh://root@[::1]:1/wg0'], { env: { SSH_AUTH_SOCK: '/nowhere' } });
  expect(v6).toMatchObject({ code: 1, stderr: expect.stringMatching(/^no connection: (?!ENOTFOUND)\w+\n$/) });
  const password = await run(['list', 'ssh://root:geheim@h/wg0']);
  expect(password).toMatchObject({ code: 1, stderr: expect.not.stringContaining('geheim') });
});

test.each([14, 15] as const)(
  'a wg-easy %i is driven with its password, or with the key for its header',
  async (version) => {
    await using stub = await startWgEasyStub({ version, clients: ['by hand'] });
    const { password } = stub;
    const ways: Record<string, string>[] = [
      { WG_EASY_PASSWORD: password },
      { WG_API_KEY: password },
      { WG_EASY_PASSWORD: 'wrong', WG_API_KEY: password },
    ];
    for (const env of ways) {
      expect(await run(['list', stub.url], { env })).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('by hand'),
      });
    }
    const env = { WG_EASY_PASSWORD: password };
    const added = await run(['add', stub.url, 'phone', '--endpoint', 'vpn.example.com:51820'], { env });
    expect(added).toMatchObject({ code: 0, stderr: '' });
    const [client] = stub.named('phone');
    expect(parseClientConfig(added.stdout)).toMatchObject({
      privateKey: client?.privateKey,
      publicKey: stub.server.publicKey,
      endpoint: 'vpn.example.com:51820',
      persistentKeepalive: 25,
    });
    expect(await run(['remove', stub.url, 'phone'], { env })).toMatchObject({ code: 0 });
    expect(stub.clients().map(({ name }) => name)).toEqual(['by hand']);
  },
);

test('an SSH host is reached with a key that was named, encrypted or not, and is told apart by its fingerprint', async () => {
  const execute = async () => ({ code: 0, stdout: '', stderr: '' });
  await using sshd = await RecordingSshd.start({ execute });
  const folder = await mkdtemp(join(tmpdir(), 'vpn-wg-'));
  try {
    const { privateKey, publicKey } = makeSshKey('a passphrase');
    sshd.authorize(publicKey);
    const [plain, encrypted] = [join(folder, 'plain'), join(folder, 'encrypted')];
    await writeFile(plain, sshd.privateKey);
    await writeFile(encrypted, privateKey);
    const list = (key: string, more: readonly string[], env = {}) =>
      run(['list', `ssh://${sshd.user}@127.0.0.1:${sshd.port}/wg0`, '--key', key, ...more], { env });
    const pinned = ['--fingerprint', sshd.fingerprint];
    expect(await list(plain, pinned)).toMatchObject({ code: 0 });
    expect(await list(encrypted, pinned, { SSH_KEY_PASSPHRASE: 'a passphrase' })).toMatchObject({ code: 0 });
    expect(await list(encrypted, pinned)).toMatchObject({ code: 1, stderr: expect.stringContaining('passphrase') });
    const unknown = await list(plain, []);
    expect(unknown).toMatchObject({ code: 1, stderr: expect.stringContaining(sshd.fingerprint) });
    expect(unknown.stderr).toContain('no key of this host is pinned');
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a host that cannot be opened is named with what is missing', async () => {
  expect(await run(['list', 'http://10.0.0.5:51821'])).toMatchObject({
    code: 1,
    stderr: 'set WG_EASY_PASSWORD to the password of the wg-easy page\n',
  });
  expect(await run(['list', 'ssh://host/wg0'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('user@host'),
  });
  expect(await run(['list', 'ssh://root@host/wg0', '--key', '/nowhere'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('/nowhere cannot be read'),
  });
  expect(await run(['list', 'a host'])).toMatchObject({ code: 1, stderr: expect.stringContaining('a host is') });
  expect(await run(['list', 'http://127.0.0.1:1'], { env: { WG_EASY_PASSWORD: 'geheim' } })).toMatchObject({
    code: 1,
    stderr: expect.not.stringContaining('geheim'),
  });
});

test('a peers file that is wrong or missing ends the command before anything is changed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'vpn-wg-'));
  try {
    const file = join(folder, 'team.json');
    await writeFile(file, '{"peers":[{"name":"a b"}]}');
    expect(await run(['sync', 'wg-none', file])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('peers.0.name'),
    });
    const missing = await run(['sync', 'wg-none', join(folder, 'none.json')]);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be read') });
  } finally {
    await rm(folder, { recursive: true });
  }
});
