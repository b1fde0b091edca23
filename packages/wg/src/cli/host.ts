import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import type { WgDriver } from '../driver.ts';
import { openLocalDriver } from '../shell/shell-driver.ts';
import { knownHostFingerprints, openSshDriver } from '../shell/ssh.ts';
import { openWgEasyDriver } from '../wg-easy/wg-easy-driver.ts';
import { UsageError } from './usage-error.ts';

export interface HostOptions {
  /** Private key file for a host over SSH; without it the agent and `~/.ssh/id_ed25519` are tried. */
  readonly key?: string | undefined;
  /** Pinned host key, `SHA256:…`; without it known_hosts is asked. */
  readonly fingerprint?: string | undefined;
  /** Over SSH: `direct` as root, `sudo`, or `kit` for the scripts of this package. */
  readonly privilege?: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Opens the host that an argument names:
 *
 * - `http://10.0.0.5:51821`, a wg-easy; its password is in `WG_EASY_PASSWORD`, the user of a v15 in `WG_EASY_USERNAME`, what
 *   the Authorization header shall hold when there is no password, or none that serves, in `WG_API_KEY`
 * - `ssh://vpn@host.example.com:22/wg0`; the passphrase of an encrypted key is in `SSH_KEY_PASSPHRASE`
 * - `wg0`, an interface of this machine
 *
 * @throws UsageError
 */
export async function openHost(target: string, options: HostOptions, env: Environment): Promise<WgDriver> {
  try {
    return await open(target, options, env);
  } catch (error) {
    // How drivers say that an interface or a fingerprint cannot be one.
    throw error instanceof TypeError ? new UsageError(error.message) : error;
  }
}

async function open(target: string, options: HostOptions, env: Environment): Promise<WgDriver> {
  if (/^https?:/.test(target)) return openWgEasy(target, env);
  if (target.startsWith('ssh:')) return openSsh(target, options, env);
  if (/^[A-Za-z0-9_=+.-]{1,15}$/.test(target)) return openLocalDriver({ interface: target });
  throw new UsageError('a host is http(s)://…, ssh://user@host[:port]/interface, or the name of an interface here');
}

function openWgEasy(url: string, env: Environment): WgDriver {
  const { WG_EASY_PASSWORD: password, WG_EASY_USERNAME: username, WG_API_KEY: apiKey } = env;
  if (!password && !apiKey) throw new UsageError('set WG_EASY_PASSWORD to the password of the wg-easy page');
  // Whoever types the address means it, wherever it is.
  return openWgEasyDriver({ url, username, password, apiKey, allowPrivate: ['0.0.0.0/0', '::/0'] });
}

async function openSsh(target: string, options: HostOptions, env: Environment): Promise<WgDriver> {
  const url = URL.parse(target);
  const name = url?.pathname.slice(1);
  if (url === null || url.username === '' || !name) throw new UsageError('say ssh://user@host[:port]/interface');
  if (url.password !== '') throw new UsageError('a password cannot be used, and does not belong into a command line');
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = url.port === '' ? 22 : Number(url.port);
  const { privilege = url.username === 'root' ? 'direct' : 'sudo' } = options;
  if (!isPrivilege(privilege)) throw new UsageError('--privilege is direct, sudo or kit');
  return openSshDriver({
    host,
    port,
    user: url.username,
    ...(await findIdentity(options.key, env)),
    hostFingerprints: options.fingerprint === undefined ? await fromKnownHosts(host, port) : [options.fingerprint],
    interface: name,
    privilege,
  });
}

/** As `ssh` does it: the key that was named and no other, else what the agent has, and the usual file. */
async function findIdentity(named: string | undefined, env: Environment) {
  const { SSH_AUTH_SOCK: agent, SSH_KEY_PASSPHRASE: passphrase } = env;
  const usual = join(homedir(), '.ssh', 'id_ed25519');
  if (named !== undefined || !agent) return { privateKey: await readKey(named ?? usual), passphrase };
  const privateKey = await readFile(usual, 'utf8').catch(() => '');
  // One that is encrypted is most likely in the agent, too.
  const isUsable = !(ssh2.utils.parseKey(privateKey, passphrase) instanceof Error);
  return isUsable ? { agent, privateKey, passphrase } : { agent };
}

function isPrivilege(text: string): text is 'direct' | 'sudo' | 'kit' {
  return text === 'direct' || text === 'sudo' || text === 'kit';
}

async function readKey(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    throw new UsageError(`the private key ${path} cannot be read: name another one with --key`);
  }
}

async function fromKnownHosts(host: string, port: number): Promise<readonly string[]> {
  const text = await readFile(join(homedir(), '.ssh', 'known_hosts'), 'utf8').catch(() => '');
  return knownHostFingerprints(text, host, port);
}
