import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { AddressError } from '../address.ts';
import { ClientConfigError } from '../client-config.ts';
import { DriverError, type WgDriver } from '../driver.ts';
import { KeyError } from '../keys.ts';
import { addPeer } from './add.ts';
import { hashPassword } from './hash-password.ts';
import { type HostOptions, openHost } from './host.ts';
import { listPeers } from './list.ts';
import type { Output } from './output.ts';
import { readPeersFile } from './peers-file.ts';
import { removePeer } from './remove.ts';
import { syncPeers } from './sync.ts';
import { UsageError } from './usage-error.ts';

const HELP = `vpn-wg: peers of WireGuard hosts

  vpn-wg list HOST [--json]
  vpn-wg add HOST NAME [--address 10.8.0.14/32 | --pool 10.8.0.0/24] [--endpoint vpn.example.com:51820]
                       [--public-key KEY] [--dns 1.1.1.1]      prints the client config
  vpn-wg remove HOST NAME_OR_KEY
  vpn-wg sync HOST FILE [--dry-run] [--prune]                  FILE: { "peers": [{ "name", "public_key", "addresses" }] }
  vpn-wg hash-password                                         reads the password from standard input

  HOST  http(s)://…                       a wg-easy v14 or v15; WG_EASY_PASSWORD, WG_EASY_USERNAME, WG_API_KEY
        ssh://user@host[:port]/interface  --key FILE (else the agent, ~/.ssh/id_ed25519); SSH_KEY_PASSPHRASE
                                          --fingerprint SHA256:… (else ~/.ssh/known_hosts)
                                          --privilege direct|sudo|kit (else direct as root, sudo as anybody else)
        interface                         of this machine, as root

  Exit codes: 0 done, 1 the host or the input said no, 2 wrong usage
`;

const options = {
  json: { type: 'boolean', default: false },
  'dry-run': { type: 'boolean', default: false },
  prune: { type: 'boolean', default: false },
  address: { type: 'string' },
  pool: { type: 'string' },
  endpoint: { type: 'string' },
  'public-key': { type: 'string' },
  dns: { type: 'string', multiple: true, default: [] as string[] },
  key: { type: 'string' },
  fingerprint: { type: 'string' },
  privilege: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** What a run of the command line gets from the world. */
export interface World {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: AsyncIterable<Uint8Array | string> & { readonly isTTY?: boolean };
  readonly stdout: Output;
  readonly stderr: Output;
}

/** Runs one command line; answers the exit code: 0 done, 1 the host or the input said no, 2 wrong usage. */
export async function runCli(args: readonly string[], world: World): Promise<number> {
  try {
    await dispatch(args, world);
    return 0;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const code = exitCode(error);
    if (code === undefined) throw error;
    world.stderr.write(`${error.message}\n`);
    return code;
  }
}

function exitCode(error: Error): number | undefined {
  if (error instanceof UsageError || error instanceof WrongCommand || isArgumentError(error)) {
    return error instanceof UsageError ? 1 : 2;
  }
  const known = [DriverError, AddressError, KeyError, ClientConfigError].some((kind) => error instanceof kind);
  return known ? 1 : undefined;
}

/** No such command, or not its arguments. */
class WrongCommand extends Error {
  override readonly name = 'WrongCommand';

  constructor() {
    super(HELP);
  }
}

function isArgumentError(error: Error): boolean {
  return 'code' in error && typeof error.code === 'string' && error.code.startsWith('ERR_PARSE_ARGS');
}

function parse(args: readonly string[]) {
  return parseArgs({ args: [...args], options, allowPositionals: true });
}

type Options = ReturnType<typeof parse>['values'];

async function dispatch(args: readonly string[], world: World): Promise<void> {
  const { values, positionals } = parse(args);
  const [command, ...rest] = positionals;
  if (values.help) return world.stdout.write(HELP);
  if (command === 'hash-password' && rest.length === 0) {
    return world.stdout.write(await hashPassword(await readPassword(world)));
  }
  const [host, subject] = rest;
  const work = host === undefined || rest.length > 2 ? undefined : hostCommand(command, { subject, values, world });
  if (work === undefined || host === undefined) throw new WrongCommand();
  await using driver = await openHost(host, hostOptions(values), world.env);
  await work(driver);
}

interface Call {
  readonly subject: string | undefined;
  readonly values: Options;
  readonly world: World;
}

function hostCommand(command: string | undefined, call: Call): ((driver: WgDriver) => Promise<void>) | undefined {
  const { subject, values, world } = call;
  const { stdout } = world;
  if (command === 'list' && subject === undefined) return (driver) => listPeers(driver, stdout, values);
  if (subject === undefined) return undefined;
  switch (command) {
    case 'add': {
      const { address, pool, endpoint, dns, 'public-key': publicKey } = values;
      return (driver) => addPeer(driver, stdout, { name: subject, address, pool, endpoint, dns, publicKey });
    }
    case 'remove':
      return (driver) => removePeer(driver, stdout, subject);
    case 'sync':
      return async (driver) => {
        const desired = readPeersFile(await readPeers(subject, world));
        await syncPeers(driver, stdout, { desired, dryRun: values['dry-run'], prune: values.prune });
      };
    default:
      return undefined;
  }
}

function hostOptions({ key, fingerprint, privilege }: Options): HostOptions {
  return { key, fingerprint, privilege };
}

/** Somebody who types ends with Enter, a pipe by closing. */
async function readPassword({ stdin, stderr }: World): Promise<string> {
  if (stdin.isTTY !== true) return (await text(stdin)).replace(/\r?\n$/, '');
  stderr.write('password (it will be seen): ');
  for await (const line of stdin) return String(line).replace(/\r?\n$/, '');
  return '';
}

/** `-` is standard input. */
async function readPeers(path: string, { stdin }: World): Promise<string> {
  try {
    return path === '-' ? await text(stdin) : await readFile(path, 'utf8');
  } catch {
    throw new UsageError(`the file ${path} cannot be read`);
  }
}
