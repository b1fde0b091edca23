import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addConsumer, type PackedSdk, packSdk, runTool } from './fixtures/package.ts';
import { startServer } from './fixtures/server.ts';

/** Building, packing and type checking take seconds even on a free machine. */
const SLOW_MS = 180_000;

let packed: PackedSdk | undefined;
let sdkDir: string;
let project: string;
let tarball: string;

beforeAll(async () => {
  packed = await packSdk();
  ({ project, tarball } = packed);
  sdkDir = join(project, 'node_modules/@vpn-api/sdk');
  await addConsumer(project);
}, SLOW_MS);

afterAll(() => packed?.[Symbol.asyncDispose]());

describe('the packed SDK', () => {
  it('holds the build, its README and nothing else', async () => {
    expect((await readdir(sdkDir)).sort()).toEqual(['README.md', 'dist', 'package.json']);
    expect((await readdir(join(sdkDir, 'dist'))).sort()).toEqual([
      'index.cjs',
      'index.d.cts',
      'index.d.ts',
      'index.js',
    ]);
  });

  it.each(['index.js', 'index.cjs', 'index.d.ts', 'index.d.cts'])('%s imports nothing but tRPC', async (file) => {
    const text = await readFile(join(sdkDir, 'dist', file), 'utf8');
    const modules = [...text.matchAll(/(?:from\s*|import\(|require\()["']([^"']+)["']/g)].map(
      (match) => match[1] ?? '',
    );
    expect(modules.length).toBeGreaterThan(0);
    expect(modules.filter((name) => !/^@trpc\/(client|server)(\/observable)?$/.test(name))).toEqual([]);
  });

  it.each(['index.js', 'index.cjs'])('%s uses nothing that only Node has', async (file) => {
    const text = await readFile(join(sdkDir, 'dist', file), 'utf8');
    const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
    expect(code).not.toMatch(/\b(?:process\.|Buffer\b|__dirname|node:)/);
  });

  it(
    'compiles strictly as ESM and CommonJS, with exact types and not one any',
    async () => {
      expect(await runTool('tsc', ['-p', 'tsconfig.json'], { cwd: project })).toEqual({
        exitCode: 0,
        output: '',
      });
    },
    SLOW_MS,
  );

  it.each(['consumer.mjs', 'consumer.cjs'])(
    'runs as %s',
    async (file) => {
      await using server = await startServer();
      await runTool('tsc', ['-p', 'tsconfig.json'], { cwd: project });
      const script = `import('./out/${file}').then((it) => it.run('${server.baseUrl}')).then((seen) => console.log(JSON.stringify(seen)))`;
      const { output } = await runTool('node', ['-e', script], { cwd: project });
      expect(JSON.parse(output)).toEqual({ name: 'Tariff 1', count: 25, code: 'not_authenticated', webhook: 'msg_1' });
    },
    SLOW_MS,
  );

  it('passes publint', async () => {
    const { messages, pkg } = await publint({ pkgDir: sdkDir, strict: true, pack: false });
    expect(messages.map((message) => formatMessage(message, pkg as Record<string, unknown>))).toEqual([]);
  });

  it(
    'passes attw in every module mode',
    async () => {
      const { exitCode, output } = await runTool('attw', [tarball, '--no-color'], { cwd: project });
      expect({ exitCode, output: exitCode === 0 ? '' : output }).toEqual({ exitCode: 0, output: '' });
    },
    SLOW_MS,
  );
});
