import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { loadOrCreateDevelopmentSecrets } from '../../src/config/development-secrets.ts';

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vpn-api-secrets-'));
  file = join(directory, 'secrets.json');
});

afterEach(() => rm(directory, { recursive: true, force: true }));

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

test('the first start makes the four secrets, readable by the owner alone, and they are accepted', async () => {
  const env = await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory });
  const { config } = loadConfig(env);
  expect(await modeOf(file)).toBe(0o600);
  expect(Object.keys(JSON.parse(await readFile(file, 'utf8')))).toEqual([
    'SECRET_KEY',
    'CONFIG_ENCRYPTION_KEY',
    'PROMOTE_SECRET',
    'PAYMENT_WEBHOOK_SECRET',
  ]);
  expect(config.secrets.promoteSecret).toBe(env.PROMOTE_SECRET);
  expect([...config.payments.standardSenders.keys()]).toEqual(['standard']);
  expect(await readdir(directory)).toEqual(['secrets.json']);
});

test('generated secrets would be strong enough for production', async () => {
  const env = await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory });
  expect(() => loadConfig({ ...env, NODE_ENV: 'production' })).not.toThrow();
});

test('a later start reads the same secrets', async () => {
  const first = await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory });
  expect(await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory })).toEqual(first);
});

test('processes that start together agree on one set', async () => {
  const starts = Array.from({ length: 8 }, () => loadOrCreateDevelopmentSecrets({ DATA_DIR: directory }));
  const keys = (await Promise.all(starts)).map((env) => env.SECRET_KEY);
  expect(new Set(keys).size).toBe(1);
  expect(await readdir(directory)).toEqual(['secrets.json']);
});

test('what the environment sets wins, and an empty value counts as unset', async () => {
  const env = await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory, SECRET_KEY: 'mine', PROMOTE_SECRET: '' });
  expect(env.SECRET_KEY).toBe('mine');
  expect(env.PROMOTE_SECRET).toHaveLength(43);
});

test('an environment that sets everything needs no file', async () => {
  const env = {
    DATA_DIR: directory,
    SECRET_KEY: 'a',
    CONFIG_ENCRYPTION_KEY: 'b',
    PROMOTE_SECRET: 'c',
    PAYMENT_WEBHOOK_SECRET: 'd',
  };
  expect(await loadOrCreateDevelopmentSecrets(env)).toEqual(env);
  expect(await readdir(directory)).toEqual([]);
});

test('in production nothing is made or read', async () => {
  const env = { NODE_ENV: 'production', DATA_DIR: directory };
  expect(await loadOrCreateDevelopmentSecrets(env)).toEqual(env);
  expect(await readdir(directory)).toEqual([]);
});

test('a file of an earlier version gains what it lacks and keeps what it has', async () => {
  await writeFile(file, JSON.stringify({ SECRET_KEY: 'kept' }), { mode: 0o600 });
  const env = await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory });
  expect(env.SECRET_KEY).toBe('kept');
  expect(await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory })).toEqual(env);
  expect(await modeOf(file)).toBe(0o600);
});

test('a file that others could read is closed', async () => {
  await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory });
  await chmod(file, 0o644);
  await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory });
  expect(await modeOf(file)).toBe(0o600);
});

test.each(['{"SECRET_KEY": "CANARY', '[]', '{"SECRET_KEY": 5}', ''])(
  'a damaged file stops the start, is not overwritten and not quoted: %s',
  async (text) => {
    await writeFile(file, text);
    const error = await loadOrCreateDevelopmentSecrets({ DATA_DIR: directory }).catch((thrown: Error) => thrown);
    expect(String(error)).toMatch(/secrets\.json is damaged/);
    expect(String(error)).not.toContain('CANARY');
    expect(await readFile(file, 'utf8')).toBe(text);
  },
);
