import {
  claimHostPeers,
  countDevices,
  findHostPeer,
  findUserByEmail,
  findUserById,
  findUserByTelegramId,
  forgetForeignPeer,
  insertPeer,
  isAddressTaken,
  isPublicKeyTaken,
  isUniqueViolation,
  listHostPeers,
  lockServer,
  lockUser,
  type PeerRow,
  type Queryable,
  recordCounters,
  type ServerRow,
  type Tx,
  type UserRow,
  updatePeer,
} from '@vpn-api/db';
import type { ObservedPeer, ReportedPeer, WgDriver } from '@vpn-api/wg';
import { ADDRESS_REST_SECONDS, addressPools } from '../domain/address.ts';
import { type Place, placesOnHost } from '../domain/adoption.ts';
import { addSeconds, type Instant } from '../domain/instant.ts';
import type { AccessReason } from '../domain/peer.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { ensureUser, type Identity } from './ensure-user.ts';
import { judgeOneMore } from './peer-access.ts';
import { sealKeys } from './peer-rows.ts';
import { choosesAddresses } from './place-peer.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'secretBox' | 'outbox'>;

/** Whose device a peer on a host is: by one of the three. */
export interface NamedOwner extends Identity {
  readonly userId?: number | undefined;
  readonly deviceName?: string | undefined;
}

/** By public key. `ambiguous`: somebody was named, but it cannot be told for which of several peers. */
export type PeerOwners = ReadonlyMap<string, NamedOwner | 'ambiguous'>;

export interface AdoptPeers {
  readonly server: ServerRow;
  readonly driver: WgDriver;
  /** Peers that nobody named stay foreign. */
  readonly ownersOf: (observed: readonly ObservedPeer[]) => PeerOwners;
  /** Owners without an account get one. */
  readonly createUsers: boolean;
  /** False only shows what would be done. */
  readonly apply: boolean;
  readonly source: AuditSource;
  readonly signal: AbortSignal;
}

type Obstacle =
  /** The owner has no account. */
  | 'no_user'
  /** Anybody may have registered with the owner's e-mail, and nobody proved it. */
  | 'unproven_email'
  /** The key is another peer's or a server's. */
  | 'key_conflict'
  /** It has no address of its own, one outside the pools, or one that is taken. */
  | 'address_conflict'
  /** The host keeps its configuration and does not give one that can be used. */
  | 'no_config';

/** `ours`: it was before, and the plan of the server says what becomes of it. `foreign`: nobody named its owner. */
export type AdoptionOutcome = 'adopted' | 'ours' | 'foreign' | 'ambiguous' | Obstacle;

export interface Adoption {
  readonly peer: ObservedPeer;
  readonly owner: NamedOwner | undefined;
  readonly outcome: AdoptionOutcome;
  /** Of an adopted one: why it is switched off once the server is in `apply` mode; null when it stays on. */
  readonly deniedFor: AccessReason | null;
}

/** Nobody must lose his tunnel before a person has seen the plan. */
export class NotObservedError extends Error {
  override readonly name = 'NotObservedError';
}

/**
 * Makes peers that a host has already ours, without a word to the host but to read it: tunnels stay up. Each becomes a row
 * that says exactly what is there, so that the next compare finds nothing to change for those who paid. They are there
 * already, so neither the capacity of the server nor the device limit of the owner refuses one; the limit suspends those
 * beyond it, once the plan was applied. Each is a transaction of its own: whatever ends this, a repeat goes on with the rest.
 * @throws DriverError, NotObservedError for a server that is driven
 */
export async function adoptPeers(deps: Deps, input: AdoptPeers): Promise<readonly Adoption[]> {
  if (input.apply) assertObserved(input.server);
  const run = await lookAtHost(deps, input);
  const adoptions: Adoption[] = [];
  for (const peer of run.observed) adoptions.push(await adoptPeer(deps, run, peer));
  return adoptions;
}

/** The first ones are the older devices: those in use are the last that a device limit takes. */
function byLastUse(a: ObservedPeer, b: ObservedPeer): number {
  const [last, other] = [a.lastHandshakeAt ?? '', b.lastHandshakeAt ?? ''];
  return last === other ? 0 : last > other ? -1 : 1;
}

function assertObserved(server: ServerRow | undefined): void {
  if (server?.mode !== 'observe')
    throw new NotObservedError('the server is driven: peers are adopted while it is observed');
}

/** What the host and the rows say about all peers. */
interface Run extends AdoptPeers {
  readonly observed: readonly ObservedPeer[];
  readonly owners: PeerOwners;
  /** Keys of ours, those long gone too, as the plan sees them. */
  readonly ours: ReadonlySet<string>;
  /** Keys that the host lists more than once. */
  readonly twice: ReadonlySet<string>;
  readonly places: ReadonlyMap<string, Place>;
  /** Undefined for a host that keeps no configurations. */
  readonly reports: ReadonlyMap<string, ReportedPeer> | undefined;
  /** Devices that a dry run would have added so far, by owner. */
  readonly planned: Map<string, number>;
}

async function lookAtHost(deps: Deps, input: AdoptPeers): Promise<Run> {
  const { server, driver, signal } = input;
  const observed = (await driver.list(signal)).toSorted(byLastUse);
  const ours = new Set((await listHostPeers(deps.store, server.id)).map(({ public_key }) => public_key));
  const owners = input.ownersOf(observed);
  const wanted = observed.map(({ publicKey }) => publicKey).filter((key) => owners.has(key) && !ours.has(key));
  const reports = await driver.read?.(wanted, signal);
  const byKey = Map.groupBy(observed, ({ publicKey }) => publicKey);
  return {
    ...input,
    ...{ observed, owners, ours },
    twice: new Set([...byKey].flatMap(([key, peers]) => (peers.length > 1 ? [key] : []))),
    places: placesOnHost(observed, choosesAddresses(server) ? null : addressPools(server)),
    reports: reports && new Map(reports.map((report) => [report.publicKey, report])),
    planned: new Map(),
  };
}

async function adoptPeer(deps: Deps, run: Run, peer: ObservedPeer): Promise<Adoption> {
  const named = run.owners.get(peer.publicKey);
  const owner = named === 'ambiguous' ? undefined : named;
  const without = (outcome: AdoptionOutcome): Adoption => ({ peer, owner, outcome, deniedFor: null });
  if (run.ours.has(peer.publicKey)) return without('ours');
  if (owner === undefined) return without(named === 'ambiguous' ? named : 'foreign');
  const user = await findOwner(deps.store, owner);
  const mayMake = user === 'no_user' && run.createUsers && owner.userId === undefined;
  if (typeof user === 'string' && !mayMake) return without(user);
  const obstacle = await obstacleFor(deps.store, run, { peer, now: deps.clock.now() });
  if (obstacle !== undefined) return without(obstacle);
  const owned = typeof user === 'string' ? undefined : user;
  const adoption: Adoption = {
    peer,
    owner,
    outcome: 'adopted',
    deniedFor: await deniedFor(deps, run, { owner, owned }),
  };
  if (!run.apply) return adoption;
  const outcome = await insertAdopted(deps, run, { peer, owner, user: owned ?? (await makeOwner(deps, run, owner)) });
  return outcome === 'adopted' ? adoption : without(outcome);
}

/** By e-mail only an account whose address is proven or came from the operator: a config with a private key goes there. */
async function findOwner(q: Queryable, owner: NamedOwner): Promise<UserRow | 'no_user' | 'unproven_email'> {
  const { userId, telegramId, email = '' } = owner;
  if (userId !== undefined) return present(await findUserById(q, userId));
  if (telegramId !== undefined) return present(await findUserByTelegramId(q, telegramId));
  const user = present(await findUserByEmail(q, email));
  const isUnproven = user !== 'no_user' && user.email_verified_at === null && user.origin !== 'service';
  return isUnproven ? 'unproven_email' : user;
}

function present(user: UserRow | undefined): UserRow | 'no_user' {
  return user === undefined || user.removed_at !== null ? 'no_user' : user;
}

function makeOwner(deps: Deps, { source }: Run, { email, telegramId }: NamedOwner): Promise<UserRow> {
  return ensureUser(deps, { email, telegramId }, { source, beforeCommit: async () => {} });
}

interface OnHost {
  readonly peer: ObservedPeer;
  readonly now: Instant;
}

/** What keeps a peer from being ours; undefined when nothing does. */
async function obstacleFor(
  q: Queryable,
  { server, twice, places, reports }: Run,
  { peer: { publicKey }, now }: OnHost,
): Promise<Obstacle | undefined> {
  if (twice.has(publicKey)) return 'key_conflict';
  if (reports !== undefined && !reports.has(publicKey)) return 'no_config';
  const place = places.get(publicKey);
  if (place === undefined) return 'address_conflict';
  if (await isPublicKeyTaken(q, publicKey, { exceptForeignOn: server.id })) return 'key_conflict';
  if (place.address_index === null) return undefined;
  const query = { serverId: server.id, restingSince: addSeconds(now, -ADDRESS_REST_SECONDS) };
  return (await isAddressTaken(q, query, place.address_index)) ? 'address_conflict' : undefined;
}

interface Owned {
  readonly owner: NamedOwner;
  /** Undefined before the account is made. */
  readonly owned: UserRow | undefined;
}

/** Adopted peers are the youngest devices of their owner. */
async function deniedFor(
  { store, clock }: Deps,
  { apply, planned }: Run,
  { owner, owned }: Owned,
): Promise<AccessReason | null> {
  const key = JSON.stringify([owned?.id, owned === undefined ? [owner.email, owner.telegramId] : null]);
  const before = planned.get(key) ?? 0;
  if (!apply) planned.set(key, before + 1);
  if (owned === undefined) return 'no_subscription';
  const rank = (await countDevices(store, owned.id)) + before;
  const { allowed, reason } = await judgeOneMore(store, { userId: owned.id, rank, now: clock.now() });
  return allowed ? null : reason;
}

interface Candidate {
  readonly peer: ObservedPeer;
  readonly owner: NamedOwner;
  readonly user: UserRow;
}

async function insertAdopted(deps: Deps, run: Run, candidate: Candidate): Promise<AdoptionOutcome> {
  try {
    return await deps.store.transaction((tx) => insertUnderLocks(deps, tx, run, candidate));
  } catch (error) {
    // A device that was made with this key at the same moment.
    if (isUniqueViolation(error) === 'peers(public_key)') return 'key_conflict';
    throw error;
  }
}

/** Looked at again under the locks: somebody may have taken the key or the address meanwhile, or applied the plan. */
async function insertUnderLocks(
  deps: Deps,
  tx: Tx,
  run: Run,
  { peer, owner, user: { id: userId } }: Candidate,
): Promise<AdoptionOutcome> {
  const at = deps.clock.now();
  const { server, source } = run;
  if (present(await lockUser(tx, userId)) === 'no_user') return 'no_user';
  assertObserved(await lockServer(tx, server.id));
  const obstacle = await obstacleFor(tx, run, { peer, now: at });
  if (obstacle !== undefined) return obstacle;
  const { id } = await insertRow(deps, tx, run, { peer, owner, userId, at });
  await forgetForeignPeer(tx, server.id, peer.publicKey);
  await claimHostPeers(tx, { serverId: server.id, publicKeys: [peer.publicKey], at });
  await startCounting(tx, server, peer);
  const details = { user_id: userId, server_id: server.id };
  await audit(tx, { ...source, at, action: 'peer.adopt', target: `peer:${id}`, details });
  return 'adopted';
}

interface NewRow {
  readonly peer: ObservedPeer;
  readonly owner: NamedOwner;
  readonly userId: number;
  readonly at: Instant;
}

/** Says that the host has what is wanted, since it does. */
async function insertRow(
  deps: Deps,
  tx: Tx,
  { server, places, reports }: Run,
  { peer, owner, userId, at }: NewRow,
): Promise<PeerRow> {
  const report = reports?.get(peer.publicKey);
  const privateKey = report?.privateKey ?? null;
  const { id } = await insertPeer(tx, {
    user_id: userId,
    server_id: server.id,
    device_name: owner.deviceName ?? null,
    public_key: peer.publicKey,
    key_origin: privateKey === null ? 'client' : 'host',
    ...(places.get(peer.publicKey) as Place),
    allowed_ips: server.client_allowed_ips,
    applied_version: 1,
    applied_state: peer.enabled ? 'present' : 'suspended',
    applied_at: at,
    last_handshake_at: peer.lastHandshakeAt,
    created_at: at,
  });
  const presharedKey = report?.presharedKey ?? peer.presharedKey ?? null;
  return updatePeer(tx, id, sealKeys(deps, id, { privateKey, presharedKey }));
}

/** What went through before counts for nobody here. */
async function startCounting(tx: Tx, { id: serverId }: ServerRow, peer: ObservedPeer): Promise<void> {
  const row = await findHostPeer(tx, serverId, peer.publicKey);
  if (row === undefined) return;
  const last = { rx_bytes: row.rx_bytes, tx_bytes: row.tx_bytes };
  await recordCounters(tx, [{ id: row.id, rx_bytes: peer.rxBytes, tx_bytes: peer.txBytes, last }]);
}
