import { execFile } from 'node:child_process';
import { access, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { stripTypeScriptTypes } from 'node:module';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { openTestStore } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { call, engines } from '../harness.ts';
import { type Exit, ServerProcess, secrets, temporaryFolder } from './server-process.ts';

const run = promisify(execFile);

describe('starting', () => {
  test('a first start makes its folder and its secrets, says where everything is, and answers', async () => {
    await using folder = await temporaryFolder();
    await using server = new ServerProcess({ cwd: folder.path, env: { PORT: '0' } });
    const url = await server.ready();
    for (const place of ['/docs', '/openapi.json', '/trpc']) expect(server.stdout).toContain(`${url}${place}`);
    expect(server.stdout).toContain(join(folder.path, 'data'));
    expect(server.stdout).toContain('npm run demo');
    expect(server.stdout).toContain('Ctrl-C');
    expect(server.stdout.trim().split('\n').length).toBeLessThan(20);

    const file = join(folder.path, 'data', 'secrets.json');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder.path, 'data'))).mode & 0o077).toBe(0);
    const generated = Object.values(JSON.parse(await readFile(file, 'utf8')) as Record<string, string>);
    for (const secret of generated) expect(server.output).not.toContain(secret);

    expect((await call(`${url}/`, 'GET')).body).toMatchObject({ msg: 'VPN API is running' });
    expect((await call(`${url}/ready`, 'GET')).body).toEqual({ status: 'ready' });
    expect(await server.end('SIGINT')).toEqual({ code: 0, signal: null });
  });

  test('a second start finds the data and the secrets of the first', async () => {
    await using folder = await temporaryFolder();
    const options = { cwd: folder.path, env: { PORT: '0', RATE_LIMITS: 'auth=0,default=0' } };
    const account = { email: 'first@example.com', password: 'Password123!' };
    const logIn = async (url: string) => (await call(`${url}/auth/login`, 'POST', { body: account })).status;
    await using first = new ServerProcess(options);
    const url = await first.ready();
    expect((await call(`${url}/auth/register`, 'POST', { body: account })).status).toBe(200);
    expect(await logIn(url)).toBe(200);
    expect(await first.end('SIGTERM')).toEqual({ code: 0, signal: null });
    await using second = new ServerProcess(options);
    expect(await logIn(await second.ready())).toBe(200);
  });

  test('a wrong configuration is refused in one message that names every wrong variable and no value', async () => {
    const wrong = { PORT: 'eighty', BCRYPT_COST: '4', WG_POOL_V4: '10.8.0.1/99', DATABASE_URL: 'mysql://canary-value' };
    const { code, stderr } = await refusedStart({ ...secrets, ...wrong, SECRET_KEY: 'canary-short' });
    expect(code).toBe(1);
    for (const name of [...Object.keys(wrong), 'SECRET_KEY']) expect(stderr).toContain(`  ${name} `);
    expect(stderr).toContain('(for example PORT=8000)');
    expect(stderr).not.toMatch(/canary|\n\s+at /);
  });

  test('production without secrets is refused and nothing is generated', async () => {
    await using folder = await temporaryFolder();
    await using server = new ServerProcess({ cwd: folder.path, env: { NODE_ENV: 'production' } });
    expect(await server.exit).toEqual({ code: 1, signal: null });
    expect(server.stderr).toContain('SECRET_KEY must be set');
    expect(server.stderr).toContain('CONFIG_ENCRYPTION_KEY must be set');
    await expect(access(join(folder.path, 'data'))).rejects.toThrow('ENOENT');
  });

  test('a port in use is one sentence', async () => {
    await using taken = createServer();
    await new Promise<void>((done) => taken.listen(0, '127.0.0.1', done));
    const address = taken.address();
    const port = typeof address === 'object' ? String(address?.port) : '';
    const { code, stderr } = await refusedStart({ ...secrets, PORT: port });
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toContain(port);
    expect(stderr).toContain('set PORT to a free one');
  });

  test('an SSH key that is not there is one sentence', async () => {
    const ssh = { WG_HOST_SSH: 'vpn@host.example.com', WG_HOST_SSH_KEY: '/nowhere/key' };
    const { code, stderr } = await refusedStart({ ...secrets, ...ssh });
    expect(code).toBe(1);
    expect(stderr).toBe('WG_HOST_SSH_KEY: the private key /nowhere/key cannot be read\n');
  });

  test.each(engines)('pending migrations on %s are refused with the command when DEV_INIT_DB=0', async (engine) => {
    await using store = await openTestStore(engine, { empty: true, file: true });
    const { code, stderr } = await refusedStart({ ...secrets, DATABASE_URL: store.url, DEV_INIT_DB: '0' });
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toContain('npm run migrate');
    expect(stderr).toContain('DEV_INIT_DB=1');
    expect(await store.pendingMigrations()).not.toEqual([]);
  });

  test.each(engines)('a database of the Python service on %s is refused and left as it is', async (engine) => {
    await using store = await openTestStore(engine, { empty: true, file: true });
    await store.kysely.schema.createTable('alembic_version').addColumn('version_num', 'varchar(32)').execute();
    const { code, stderr } = await refusedStart({ ...secrets, DATABASE_URL: store.url, DEV_INIT_DB: '1' });
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toMatch(/alembic_version.*import/);
    const tables = await store.kysely.introspection.getTables();
    expect(tables.map(({ name }) => name)).toEqual(['alembic_version']);
  });

  test('a database that cannot be reached is said without its password', async () => {
    const { code, stderr } = await refusedStart({
      ...secrets,
      DATABASE_URL: 'postgresql://vpn:canary-password@127.0.0.1:9/vpn',
      DEV_INIT_DB: '1',
    });
    expect(code).toBe(1);
    expect(stderr).not.toMatch(/canary|\n\s+at /);
  });
});

const oldNode = await findOldNode();
if (oldNode === undefined)
  process.stderr.write('\n*** SKIPPED: there is no Node older than 24 here to be refused ***\n\n');

describe.skipIf(oldNode === undefined)('on an older Node', () => {
  test('the program says in one sentence what it needs, and loads nothing', async () => {
    await using folder = await temporaryFolder();
    // What the build makes of main.ts: an older Node reads no TypeScript.
    const source = await readFile(new URL('../../src/main.ts', import.meta.url), 'utf8');
    await mkdir(join(folder.path, 'dist'));
    await writeFile(join(folder.path, 'package.json'), '{"type":"module"}');
    await writeFile(join(folder.path, 'dist', 'main.js'), stripTypeScriptTypes(source));
    const failure = await run(oldNode ?? '', [join(folder.path, 'dist', 'main.js')]).catch((error) => error);
    expect(failure.code).toBe(1);
    expect(failure.stdout).toBe('');
    expect(failure.stderr).toMatch(/^VPN API needs Node 24 or newer and this is Node \d+\.\d+\.\d+: .*\n$/);
  });
});

async function refusedStart(env: Readonly<Record<string, string>>): Promise<Exit & { readonly stderr: string }> {
  await using folder = await temporaryFolder();
  await using server = new ServerProcess({ cwd: folder.path, env: { PORT: '0', ...env } });
  return { ...(await server.exit), stderr: server.stderr };
}

async function findOldNode(): Promise<string | undefined> {
  const folders = new Set([...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/local/bin']);
  for (const folder of folders) {
    const file = join(folder, 'node');
    const { stdout } = await run(file, ['--version']).catch(() => ({ stdout: '' }));
    const [, major = ''] = /^v(\d+)\./.exec(stdout) ?? [];
    // Older ones cannot read ES modules with a top-level await at all, and then nobody's sentence is shown.
    if (Number(major) >= 15 && Number(major) < 24) return file;
  }
  return undefined;
}
