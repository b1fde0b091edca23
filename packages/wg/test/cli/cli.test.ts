import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { runCli } from '../../src/cli/cli.ts';

interface Run {
  readonly env?: Record<string, string>;
  readonly stdin?: string;
}

async function run(args: readonly string[], { env = {}, stdin = '' }: Run = {}) {
  const written = { stdout: '', stderr: '' };
  const paper = (name: 'stdout' | 'stderr') => ({
    write: (text: string) => {
      written[name] += text;
    },
  });
  const world = { env, stdin: Readable.from([stdin]), stdout: paper('stdout'), stderr: paper('stderr') };
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
