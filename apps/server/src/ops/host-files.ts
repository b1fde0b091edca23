import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { knownHostFingerprints } from '@vpn-api/wg';
import type { Config, SshHostConfig } from '../config/config.ts';
import { parseSshAddress } from '../domain/ssh-address.ts';
import type { HostCredentials } from './host-credentials.ts';

/** The settings name a file that cannot be used. The message says which variable to change. */
export class HostSettingsError extends Error {
  override readonly name = 'HostSettingsError';
}

export interface HostFiles {
  readonly credentials: HostCredentials;
  /** Pinned SSH host keys, separated by spaces; undefined for a host that is not reached over SSH, or is not known. */
  readonly fingerprint: string | undefined;
}

/**
 * What the settings of the default server say and name: secrets, the file of the SSH key, the known host keys.
 * @throws HostSettingsError
 */
export async function readHostFiles({ host, secrets }: Config): Promise<HostFiles> {
  const { password, apiKey, passphrase } = secrets.host;
  if (host.kind !== 'ssh') return { credentials: defined({ password, apiKey }), fingerprint: undefined };
  const privateKey = await readPrivateKey(host);
  return { credentials: defined({ privateKey, passphrase }), fingerprint: await findFingerprint(host) };
}

function defined(credentials: HostCredentials): HostCredentials {
  return Object.fromEntries(Object.entries(credentials).filter(([, value]) => value !== undefined));
}

async function readPrivateKey({ keyFile }: SshHostConfig): Promise<string | undefined> {
  const path = keyFile === undefined ? join(homedir(), '.ssh', 'id_ed25519') : expandHome(keyFile);
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    // Without a file of its own the agent may have the key.
    if (keyFile === undefined && process.env.SSH_AUTH_SOCK !== undefined) return undefined;
    throw new HostSettingsError(`WG_HOST_SSH_KEY: the private key ${path} cannot be read`, { cause: error });
  }
}

function expandHome(path: string): string {
  return path.startsWith('~/') ? join(homedir(), path.slice(2)) : path;
}

/** A host that nobody knows is refused at the first connection, with the key that it showed: that is what to pin. */
async function findFingerprint({ fingerprint, address }: SshHostConfig): Promise<string | undefined> {
  if (fingerprint !== undefined) return fingerprint;
  const target = parseSshAddress(address);
  const text = await readFile(join(homedir(), '.ssh', 'known_hosts'), 'utf8').catch(() => '');
  const known = target === undefined ? [] : knownHostFingerprints(text, target.host, target.port);
  return known.length === 0 ? undefined : known.join(' ');
}
