import { type ServerRow, updateServer } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { audit } from './audit.ts';
import type { ServerRequest } from './drain-server.ts';
import { getLockedServer, getServer } from './get-server.ts';
import { type PlanDeps, planHost } from './plan-host.ts';
import { brakeText, type ServerPlan } from './plan-server.ts';
import type { Pass } from './reconcile-server.ts';

type Deps = PlanDeps & Pick<Services, 'reconciler'>;

export interface ApplyServer extends ServerRequest {
  /** How many peers the plan that was shown takes off the host for no scheduled reason; more are not taken. */
  readonly acceptRemovals: number;
}

export interface AppliedServer {
  readonly server: ServerRow;
  /** Of the pass that was made at once, by this call or by the loop that was quicker. */
  readonly outcome: Pass['outcome'];
  /** How many the plan had that was agreed to. */
  readonly changes: number;
}

/**
 * Lets the plan of a server come true: switches it from `observe` to `apply`, or lets its brake go, and compares it now.
 * A plan that takes more peers off than were accepted changes nothing.
 * @throws DomainError `server_not_found`, `server_retired`, `server_from_settings`, `plan_not_accepted`, and what
 * `planHost` throws
 */
export async function applyServer(deps: Deps, request: ApplyServer): Promise<AppliedServer> {
  const { id, acceptRemovals } = request;
  const { origin, mode } = await getServer(deps.store, id);
  if (origin === 'env' && mode === 'observe') throw new DomainError('server_from_settings');
  const plan = await planHost(deps, id);
  if (plan.brake !== undefined && plan.brake.unscheduled > acceptRemovals) throw new DomainError('plan_not_accepted');
  await switchOn(deps, request, plan);
  const { outcome } = await deps.hosts.compare(id, { acceptedRemovals: acceptRemovals });
  deps.reconciler.wake([id]);
  return { server: await getServer(deps.store, id), outcome, changes: plan.diff.changes.length };
}

async function switchOn({ store, clock }: Deps, request: ApplyServer, { diff, brake }: ServerPlan): Promise<void> {
  const { id, source, acceptRemovals } = request;
  await store.transaction(async (tx) => {
    const server = await getLockedServer(tx, id);
    if (server.retired_at !== null) throw new DomainError('server_retired');
    // Whichever process makes the next pass finds in the row what was agreed to.
    const brake_reason = brakeText(brake, 'planned');
    await updateServer(tx, id, { mode: 'apply', brake_reason, attempts: 0, next_attempt_at: null });
    const details = { changes: diff.changes.length, accept_removals: acceptRemovals };
    await audit(tx, { ...source, at: clock.now(), action: 'server.apply', target: `server:${id}`, details });
  });
}
