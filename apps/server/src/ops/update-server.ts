import {
  countPeers,
  owesRemovals,
  raiseConfigVersions,
  type ServerPatch,
  type ServerRow,
  type Tx,
  updateServer,
} from '@vpn-api/db';
import { parsePool } from '@vpn-api/wg';
import { DomainError, invalidField } from '../domain/errors.ts';
import { changesClients, isAnotherHost, UNSEEN } from '../domain/server.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import { claimHost } from './claim-host.ts';
import { asServerExists } from './create-server.ts';
import { getLockedServer, getServer } from './get-server.ts';
import { type HostCredentials, openCredentials, sealCredentials } from './host-credentials.ts';
import { keepPlaces, lockOwners, takesOverAddresses } from './keep-places.ts';
import { choosesAddresses } from './place-peer.ts';
import { checkedParams, type ServerSettings, settingsColumns, settingsOf } from './server-settings.ts';

type Deps = Pick<Services, 'store' | 'clock' | 'config' | 'secretBox' | 'reconciler' | 'outbox'>;

/** What is absent stays as it is. */
export type ServerChange = { readonly [Key in keyof ServerSettings]?: ServerSettings[Key] | undefined } & {
  /** All of them: what is not named is forgotten. */
  readonly credentials?: HostCredentials | undefined;
  /** Back to looking only. The other way is to apply a plan. */
  readonly mode?: 'observe' | undefined;
};

export interface ServerUpdate {
  readonly id: number;
  readonly change: ServerChange;
  readonly source: AuditSource;
}

/** Of the server that the settings describe, these are the operator's to change here. */
const OWN_OF_ENV: ReadonlySet<string> = new Set(['region', 'capacity', 'weight', 'protocol', 'protocol_params']);

/**
 * Changes a server. Another host, or another way to it, is only observed until its plan was applied.
 * @throws DomainError `server_not_found`, `server_from_settings`, `server_exists`, `server_has_peers`, `pool_in_use`,
 * `validation_failed`
 */
export async function updateServerBy(deps: Deps, { id, change, source }: ServerUpdate): Promise<ServerRow> {
  const given = Object.keys(change).filter((key) => change[key as keyof ServerChange] !== undefined);
  try {
    return await deps.store.transaction(async (tx) => {
      const known = await getServer(tx, id);
      const patch = changedColumns(deps, known, { change, given });
      const isTakeover = takesOverAddresses(known, { ...known, ...patch });
      if (isTakeover) await lockOwners(tx, id);
      // Peers before their server, as everywhere.
      if (changesClients(known, patch)) await raiseConfigVersions(tx, id);
      const locked = await getLockedServer(tx, id);
      await assertSuitsPeers(tx, locked, patch);
      const now = deps.clock.now();
      const server = await updateServer(tx, id, patch);
      if (isAnotherHost(locked, server)) await claimHost(tx, server, now);
      if (isTakeover) await keepPlaces(deps, tx, server);
      const details = { changed: given };
      await audit(tx, { ...source, at: now, action: 'server.update', target: `server:${id}`, details });
      tx.onCommit(() => deps.reconciler.wake([id]));
      return server;
    });
  } catch (error) {
    throw asServerExists(error);
  }
}

interface GivenChange {
  readonly change: ServerChange;
  /** Names of what is changed. */
  readonly given: readonly string[];
}

function changedColumns(deps: Deps, known: ServerRow, { change, given }: GivenChange): ServerPatch {
  if (known.origin === 'env') return ownColumnsOfEnv(known, { change, given });
  const { credentials: newCredentials, mode, ...settings } = change;
  const merged = { ...settingsOf(known), ...defaultsOfKind(known, settings.driver), ...onlyGiven(settings) };
  if (newCredentials === undefined) assertCredentialsMayFollow(known, merged);
  const credentials = newCredentials ?? openCredentials(deps, known);
  const columns = settingsColumns(deps, merged, credentials);
  const sealed =
    newCredentials === undefined ? {} : { credentials_sealed: sealCredentials(deps, known.id, credentials) };
  // Whatever was wrong with the host may be right now: it is tried at once.
  const fresh = { attempts: 0, next_attempt_at: null };
  const another = isAnotherHost(known, columns) ? { ...UNSEEN, mode: 'observe' as const } : {};
  const changed = onlyChanged(known, columns);
  return { ...changed, ...sealed, ...fresh, ...another, ...(mode === undefined ? {} : { mode }) };
}

/** What was said about another kind of host was not meant for this one. */
function defaultsOfKind(known: ServerRow, driver = known.driver) {
  if (driver === known.driver) return {};
  const keys = driver === 'wg-easy' ? 'reported' : 'given';
  return { keys, username: null, host_fingerprint: null, privilege: 'direct', scripts: {} } as const;
}

/** Not what is as it was: a pass, or another admin, may be changing that now. */
function onlyChanged<T extends Partial<ServerRow>>(known: ServerRow, columns: T): Partial<T> {
  const entries = Object.entries(columns).filter(([column, value]) => known[column as keyof ServerRow] !== value);
  return Object.fromEntries(entries) as Partial<T>;
}

function ownColumnsOfEnv(known: ServerRow, { change, given }: GivenChange): ServerPatch {
  if (given.some((key) => !OWN_OF_ENV.has(key))) throw new DomainError('server_from_settings');
  const { region, capacity, weight, protocol, protocol_params } = { ...settingsOf(known), ...onlyGiven(change) };
  const params = checkedParams({ protocol, protocol_params });
  return { region, capacity, weight, protocol, protocol_params: JSON.stringify(params) };
}

function onlyGiven<T extends object>(change: T): { [Key in keyof T]: Exclude<T[Key], undefined> } {
  const entries = Object.entries(change).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [Key in keyof T]: Exclude<T[Key], undefined> };
}

/** Nobody who may change an address learns a password by naming a host of his own. */
function assertCredentialsMayFollow(known: ServerRow, { driver, address }: ServerSettings): void {
  if (known.credentials_sealed === null || (known.driver === driver && known.address === address)) return;
  throw invalidField('credentials', 'must be sent again with another address');
}

async function assertSuitsPeers(tx: Tx, known: ServerRow, patch: ServerPatch): Promise<void> {
  const makesKeys = known.keys === 'given' && patch.keys === 'reported';
  const isNumbered = !choosesAddresses(known);
  const grows = !isNumbered || (isGrown(known.pool_v4, patch.pool_v4) && isGrown(known.pool_v6, patch.pool_v6));
  if (!makesKeys && grows) return;
  const hasPeers = (await countPeers(tx, { serverId: known.id })) > 0;
  if (makesKeys && hasPeers) throw new DomainError('server_has_peers');
  if (!grows && (hasPeers || (await owesRemovals(tx, known.id)))) throw new DomainError('pool_in_use');
}

/** Peers are numbered from the start of the pool: with the same start every one keeps its address. */
function isGrown(known: string | null, wanted: string | null | undefined): boolean {
  if (wanted === undefined || wanted === known || known === null) return true;
  if (wanted === null) return false;
  const [before, after] = [parsePool(known), parsePool(wanted)];
  return before.value === after.value && after.lastIndex >= before.lastIndex;
}
