import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { findServer, findServerByName, openStore, type ServerRow, type Store } from '@vpn-api/db';
import { type Config, storeUrl } from '../config/config.ts';
import { systemRandom } from '../crypto/random.ts';
import { SecretBox } from '../crypto/secret-box.ts';
import type { AccessReason } from '../domain/peer.ts';
import { systemClock } from '../jobs/clock.ts';
import { driverOpener } from '../jobs/drivers.ts';
import { createLogger } from '../obs/log.ts';
import { type Adoption, adoptPeers, NotObservedError } from '../ops/adopt-peers.ts';
import { matchOwners } from './match-owners.ts';
import { type Owners, parseOwners } from './owners-file.ts';

const options = {
  server: { type: 'string' },
  users: { type: 'string' },
  'match-names': { type: 'boolean', default: false },
  'create-users': { type: 'boolean', default: false },
  apply: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
} as const;

/** Ten thousand configurations of a wg-easy take two of these minutes. */
const TIMEOUT_MS = 300_000;

/**
 * `adopt --server NAME|ID [--users FILE] [--match-names] [--create-users] [--apply] [--json]`: shows which peers of a
 * running host would become devices of which users, and with `--apply` makes them so. The host itself is only read.
 */
export async function runAdopt(config: Config, args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options });
  const owners = values.users === undefined ? new Map() : await readOwners(values.users);
  const sources = { owners, matchNames: values['match-names'] };
  await using store = await openStore(storeUrl(config.database));
  await store.checkSchema();
  const server = await findNamed(store, values.server);
  const secretBox = new SecretBox(config.secrets.encryptionKeys, systemRandom);
  await using driver = driverOpener({ config, secretBox, log: createLogger({ level: 'error' }) })(server);
  const adoptions = await adoptPeers(
    // The running server tells the events that this writes.
    { store, clock: systemClock, secretBox, outbox: { wake: () => {} } },
    {
      ...{ server, driver, createUsers: values['create-users'], apply: values.apply },
      ownersOf: (observed) => matchOwners(observed, sources),
      source: { actor: 'cli', ip: '', request_id: '' },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    },
  ).catch((error: unknown) => {
    throw error instanceof NotObservedError ? new Error(howToObserve(server)) : error;
  });
  const missing = missingOn(adoptions, owners);
  process.stdout.write(
    values.json
      ? `${JSON.stringify({ peers: adoptions.map(asRow), missing })}\n`
      : describe(adoptions, { missing, isApplied: values.apply }),
  );
  return 0;
}

async function readOwners(file: string): Promise<Owners> {
  try {
    return parseOwners(await readFile(file, 'utf8'));
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : error}`);
  }
}

async function findNamed(store: Store, name: string | undefined): Promise<ServerRow> {
  if (name === undefined) throw new Error('Say which server: adopt --server NAME|ID');
  const byName = await findServerByName(store, name);
  const server = byName ?? (/^\d{1,9}$/.test(name) ? await findServer(store, Number(name)) : undefined);
  if (server === undefined || server.removed_at !== null) throw new Error(`There is no server ${name}.`);
  if (server.retired_at !== null) throw new Error(`The server ${name} was given up: unretire it first.`);
  return server;
}

function howToObserve({ id, name, origin }: ServerRow): string {
  const how =
    origin === 'env' ? 'start the server with WG_APPLY_ENABLED=0' : `PUT /servers/${id} { "mode": "observe" }`;
  return `The server ${name} is in apply mode, and whoever has not paid would be cut off at once: ${how}, then adopt.`;
}

/** What the file names and the host does not have. */
function missingOn(adoptions: readonly Adoption[], owners: Owners): string[] {
  const onHost = new Set(adoptions.flatMap(({ peer }) => [peer.publicKey, peer.tag ?? peer.publicKey]));
  return [...owners.keys()].filter((name) => !onHost.has(name));
}

function asRow({ peer, owner, outcome, deniedFor }: Adoption) {
  const { publicKey, tag = null, allowedIps, enabled, lastHandshakeAt } = peer;
  const who = owner === undefined ? null : nameOf(owner);
  return { publicKey, name: tag, allowedIps, enabled, lastHandshakeAt, owner: who, outcome, deniedFor };
}

const outcomes: Readonly<Record<Adoption['outcome'], string>> = {
  adopted: 'adopted',
  ours: 'ours already, or once',
  foreign: 'nobody named its owner',
  ambiguous: 'several peers have this name: name them by their keys',
  no_user: 'there is no such account; --create-users makes those with an e-mail or a Telegram id',
  unproven_email: 'anybody may have registered with this address; if it is the owner, name the account: user:ID',
  key_conflict: 'its key is in use elsewhere',
  address_conflict: 'it has no address of its own within the pools of the server',
  no_config: 'the host gives no configuration for it that can be used',
};

const denials: Readonly<Partial<Record<AccessReason, string>>> = {
  no_subscription: 'nothing is paid',
  expired: 'paid time is over',
  blocked: 'the account is blocked',
  device_limit_exceeded: 'beyond the device limit',
  quota_exceeded: 'the traffic is used up',
};

interface Run {
  readonly missing: readonly string[];
  readonly isApplied: boolean;
}

function describe(adoptions: readonly Adoption[], { missing, isApplied }: Run): string {
  const adopted = adoptions.filter(({ outcome }) => outcome === 'adopted');
  const denied = adopted.filter(({ deniedFor }) => deniedFor !== null);
  const asleep = adopted.filter(({ peer, deniedFor }) => !peer.enabled && deniedFor === null);
  const lines = [
    ...adoptions.map(describeOne),
    ...missing.map((name) => `${shown(name)}  in the file, and not on the host`),
    '',
    `${adopted.length} of ${adoptions.length} peers ${isApplied ? 'were adopted' : 'would be adopted; --apply does it'}. The host was only read.`,
    ...(denied.length === 0
      ? []
      : [`${denied.length} of them will be switched off by the first plan that is applied.`]),
    ...(asleep.length === 0
      ? []
      : [`${asleep.length} of them are off on the host, paid for, and will be switched on.`]),
  ];
  return `${lines.join('\n')}\n`;
}

function describeOne({ peer, owner, outcome, deniedFor }: Adoption): string {
  const off = peer.enabled ? '' : ' (off)';
  const who = owner === undefined ? '' : `${nameOf(owner)}: `;
  const why = deniedFor === null ? '' : `, ${denials[deniedFor] ?? deniedFor}`;
  const name = shown(peer.tag ?? '')
    .slice(0, 40)
    .padEnd(24);
  return `${peer.publicKey}  ${name}  ${shown(peer.allowedIps.join(', '))}${off}  ${who}${outcomes[outcome]}${why}`;
}

function nameOf({ userId, email, telegramId }: NonNullable<Adoption['owner']>): string {
  return userId === undefined ? (email ?? String(telegramId)) : `user:${userId}`;
}

/** Somebody else's text: nothing in it may act on a terminal. */
function shown(text: string): string {
  return text.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, '?');
}
