import { insertEventOnce, type PaymentEventRow, type Tx } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Delivery, VerifiedEvent } from '../pay/provider.ts';
import type { Services } from '../services.ts';
import type { SettleDeps } from './apply-settlement.ts';
import { eventColumns, type Outcome, recordOutcome } from './payment-inbox.ts';
import { settleEvent, settling } from './settle-payment.ts';

type Deps = SettleDeps & Pick<Services, 'store' | 'providers' | 'log' | 'metrics'>;
export type WebhookResult = PaymentEventRow['outcome'];

interface ReceiveWebhook {
  readonly provider: string;
  readonly delivery: Delivery;
}

/**
 * Takes one delivery: authentic or refused by its bytes alone, then stored with its effect in one transaction. Returning
 * means it is durable; whatever is thrown after the check means that nothing happened and the sender should repeat.
 * @throws DomainError `provider_not_found`, `invalid_signature`
 */
export async function receiveWebhook(deps: Deps, { provider: name, delivery }: ReceiveWebhook): Promise<WebhookResult> {
  const provider = deps.providers.get(name);
  if (provider?.verify === undefined) throw new DomainError('provider_not_found');
  const verified = provider.verify(delivery, deps.clock.now());
  if (verified.kind === 'rejected') {
    deps.metrics.countWebhook(name, 'rejected');
    deps.log.warn({ provider: name, reason: verified.reason }, 'webhook rejected');
    throw new DomainError('invalid_signature', { internal: verified.reason });
  }
  const received = { name, verified, raw: delivery.raw };
  const result = await settling(deps.store, (tx) => settleDelivery(deps, tx, received));
  deps.metrics.countWebhook(name, result);
  return result;
}

interface Received {
  readonly name: string;
  readonly verified: VerifiedEvent;
  readonly raw: string;
}

/**
 * The insert comes first: a repeat that runs at the same time waits on the unique index for the outcome of this one, and
 * then finds nothing left to do.
 */
async function settleDelivery(deps: Deps, tx: Tx, { name, verified, raw }: Received): Promise<WebhookResult> {
  const { dedupeKey, event, type } = verified;
  const now = deps.clock.now();
  const stored = await insertEventOnce(tx, {
    provider: name,
    dedupe_key: dedupeKey,
    type,
    ...eventColumns(event),
    raw: storable(raw),
    outcome: 'parked',
    received_at: now,
  });
  if (stored === undefined) return 'duplicate';
  const decision = event === undefined ? withoutEvent(verified) : await settleEvent(deps, tx, event);
  await recordOutcome(tx, stored.id, { ...decision, now });
  // Its payment may have been committed since this transaction looked for it.
  if (decision.outcome === 'parked') tx.onCommit(() => deps.parkedEvents.wake());
  return decision.outcome;
}

/** PostgreSQL stores no NUL. Such a body is no JSON, so only a person will ever read it. */
function storable(raw: string): string {
  return raw.replaceAll('\0', '\u{fffd}').toWellFormed();
}

/** Authentic, but with nothing to settle: a type that is not ours, or a body that only a person can make sense of. */
function withoutEvent({ malformed }: VerifiedEvent): Omit<Outcome, 'now'> {
  return malformed === undefined
    ? { outcome: 'ignored', reason: 'type_unknown', payment_id: null }
    : { outcome: 'held', reason: `malformed: ${malformed}`, payment_id: null };
}
