import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { mergeEnvFile, readEnvironment } from '../../src/config/env.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vpn-api-env-'));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

async function envFile(text: string): Promise<string> {
  const file = join(directory, '.env');
  await writeFile(file, text);
  return file;
}

test('in development the file fills in what the process does not set', async () => {
  vi.stubEnv('NODE_ENV', 'development');
  vi.stubEnv('WG_MTU', '1300');
  const env = readEnvironment(await envFile('WG_MTU=1400\nWG_DNS="9.9.9.9" # quad9\n'));
  expect(env).toMatchObject({ WG_MTU: '1300', WG_DNS: '9.9.9.9' });
});

test.each(['production', 'test'])('in %s no file is read', async (mode) => {
  vi.stubEnv('NODE_ENV', mode);
  expect(readEnvironment(await envFile('WG_DNS=9.9.9.9'))).not.toHaveProperty('WG_DNS');
});

test('a missing file is nothing special', () => {
  vi.stubEnv('NODE_ENV', 'development');
  expect(readEnvironment(join(directory, 'none'))).toHaveProperty('PATH');
});

test('a variable that is set to nothing does not hide the file', () => {
  expect(mergeEnvFile({ A: '', B: 'b' }, 'A=1\nB=2')).toEqual({ A: '1', B: 'b' });
});
