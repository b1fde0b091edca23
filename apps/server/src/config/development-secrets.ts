import { randomUUID } from 'node:crypto';
import { chmod, link, mkdir, open, readFile, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { randomText, systemRandom } from '../crypto/random.ts';
import type { Random } from '../services.ts';
import type { Environment } from './config.ts';

const FILE_NAME = 'secrets.json';

const generators = {
  SECRET_KEY: (random: Random) => randomText(random, 48),
  CONFIG_ENCRYPTION_KEY: (random: Random) => base64(random, 32),
  PROMOTE_SECRET: (random: Random) => randomText(random, 32),
  PAYMENT_WEBHOOK_SECRET: (random: Random) => `whsec_${base64(random, 32)}`,
} as const;

type Generated = Readonly<Record<string, string>>;

/**
 * Answers the environment with the four secrets a development server needs. What is not set comes from
 * `DATA_DIR/secrets.json`, which is made once with mode 0600; two processes that start together end up with the same
 * file. In production nothing is read or made.
 * @throws Error when the file exists and is not what was written
 */
export async function loadOrCreateDevelopmentSecrets(
  env: Environment,
  random: Random = systemRandom,
): Promise<Environment> {
  const unset = Object.keys(generators).filter((name) => !env[name]?.trim());
  if (env.NODE_ENV?.trim() === 'production' || unset.length === 0) return env;
  const directory = env.DATA_DIR?.trim() || './data';
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const stored = await readOrCreate(join(directory, FILE_NAME), random);
  return { ...env, ...Object.fromEntries(unset.map((name) => [name, stored[name]])) };
}

async function readOrCreate(file: string, random: Random): Promise<Generated> {
  const found = await readSecrets(file);
  if (found !== undefined) return complete(file, found, random);
  const fresh = generate(random);
  return (await createOnce(file, fresh)) ? fresh : readOrCreate(file, random);
}

/** A file of an earlier version lacks the names that came later; those it has are never changed. */
async function complete(file: string, found: Generated, random: Random): Promise<Generated> {
  // Copied or edited files are often readable by all.
  await chmod(file, 0o600);
  const all = { ...generate(random), ...found };
  if (Object.keys(all).length > Object.keys(found).length) await replace(file, all);
  return all;
}

function generate(random: Random): Generated {
  return Object.fromEntries(Object.entries(generators).map(([name, make]) => [name, make(random)]));
}

async function readSecrets(file: string): Promise<Generated | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return text === undefined ? undefined : parseSecrets(file, text);
}

function parseSecrets(file: string, text: string): Generated {
  const value = parseJson(text);
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isRecord || !Object.values(value).every((secret) => typeof secret === 'string' && secret !== '')) {
    throw new Error(`${file} is damaged: repair it, or remove it if nothing encrypted with its keys is needed`);
  }
  return value as Generated;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own message would quote a part of the file.
    return undefined;
  }
}

/** Answers false when another process was first. `link` refuses an existing name; `rename` would replace it. */
async function createOnce(file: string, secrets: Generated): Promise<boolean> {
  const temporary = await writeTemporary(file, secrets);
  try {
    await link(temporary, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await unlink(temporary);
  }
}

async function replace(file: string, secrets: Generated): Promise<void> {
  await rename(await writeTemporary(file, secrets), file);
}

async function writeTemporary(file: string, secrets: Generated): Promise<string> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  const handle = await open(temporary, 'wx', 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(secrets, null, 2)}\n`);
    // On disk before it gets its name: a crash must not leave an empty file with the keys of a database.
    await handle.sync();
  } finally {
    await handle.close();
  }
  return temporary;
}

function base64(random: Random, length: number): string {
  return Buffer.from(random.bytes(length)).toString('base64');
}
