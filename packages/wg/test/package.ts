import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

const packageDirectory = fileURLToPath(new URL('..', import.meta.url));
const installed = fileURLToPath(new URL('../../../node_modules', import.meta.url));

export interface ToolResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a tool of this repository or of the project; a failure is an answer. */
export async function runTool(
  tool: string,
  args: readonly string[],
  { cwd, env = {} }: { readonly cwd: string; readonly env?: Record<string, string> },
): Promise<ToolResult> {
  const places = [join(cwd, 'node_modules/.bin'), dirname(process.execPath), join(installed, '.bin'), process.env.PATH];
  const PATH = places.join(delimiter);
  return run(tool, [...args], { cwd, env: { ...process.env, NO_COLOR: '1', PATH, ...env }, maxBuffer: 2 ** 24 }).then(
    ({ stdout, stderr }) => ({ exitCode: 0, stdout, stderr }),
    (error: { code?: unknown; stdout?: string; stderr?: string; message: string }) => ({
      exitCode: typeof error.code === 'number' ? error.code : 1,
      stdout: error.stdout ?? '',
      stderr: error.stderr || error.message,
    }),
  );
}

async function mustRun(...args: Parameters<typeof runTool>): Promise<void> {
  const { exitCode, stdout, stderr } = await runTool(...args);
  if (exitCode !== 0) throw new Error(`${args[0]} failed:\n${stdout}${stderr}`);
}

export interface PackedPackage extends AsyncDisposable {
  readonly tarball: string;
  /** A project with nothing in it but the packed package and what its package.json asks for. */
  readonly project: string;
  /** The package in there. */
  readonly directory: string;
}

/** Builds the package aside, packs it and installs it into an empty project without touching the network. */
export async function packPackage(): Promise<PackedPackage> {
  await using cleanup = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), 'wg-package-'));
  cleanup.defer(() => rm(root, { recursive: true, force: true }));
  const [staging, project] = [join(root, 'staging'), join(root, 'project')];
  const directory = join(project, 'node_modules/@vpn-api/wg');
  await mkdir(directory, { recursive: true });
  await mustRun('tsdown', ['--out-dir', join(staging, 'dist'), '--logLevel', 'warn'], { cwd: packageDirectory });
  for (const name of ['package.json', 'README.md', 'LICENSE', 'host', 'src', 'test']) {
    await cp(join(packageDirectory, name), join(staging, name), { recursive: true });
  }
  await mustRun('npm', ['pack', '--ignore-scripts', '--offline', '--pack-destination', root], { cwd: staging });
  const tarball = join(root, (await readdir(root)).find((name) => name.endsWith('.tgz')) ?? 'no tarball');
  await mustRun('tar', ['-xzf', tarball, '--strip-components=1', '-C', directory], { cwd: root });
  await linkDependencies(project, directory);
  const kept = cleanup.move();
  return { tarball, project, directory, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** What `npm install` would do, with the versions of this repository. */
async function linkDependencies(project: string, directory: string): Promise<void> {
  const manifest = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8')) as Manifest;
  for (const name of [...Object.keys(manifest.dependencies), '@types/node']) {
    await mkdir(dirname(join(project, 'node_modules', name)), { recursive: true });
    await symlink(join(installed, name), join(project, 'node_modules', name));
  }
  await mkdir(join(project, 'node_modules/.bin'));
  for (const [name, path] of Object.entries(manifest.bin)) {
    await symlink(join(directory, path), join(project, 'node_modules/.bin', name));
  }
}

export interface Manifest {
  readonly engines: { readonly node: string };
  readonly bin: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

/** The fenced blocks of a page, in their order. */
export function codeBlocks(markdown: string, language: string): string[] {
  return [...markdown.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, found, code]) =>
    found === language && code !== undefined ? code : [],
  );
}
