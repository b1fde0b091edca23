import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import type { Environment } from './config.ts';

/**
 * The environment of the process: the only reader of `process.env`. In development a `.env` file in the working
 * directory fills in what is not set; in production and in tests no file is read.
 */
export function readEnvironment(file = '.env'): Environment {
  const mode = process.env.NODE_ENV?.trim() || 'development';
  return mode === 'development' ? mergeEnvFile(process.env, readFile(file)) : { ...process.env };
}

/** What is set wins over the file; an empty variable counts as unset. */
export function mergeEnvFile(env: Environment, fileText: string | undefined): Environment {
  const set = Object.entries(env).filter(([, value]) => value?.trim());
  return { ...(fileText === undefined ? {} : parseEnv(fileText)), ...Object.fromEntries(set) };
}

function readFile(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
