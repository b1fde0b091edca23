import {
  findPayment,
  findRefund,
  insertRefund,
  listRefunds,
  lockUser,
  type PaymentRow,
  type Queryable,
  type RefundRow,
  type Tx,
} from '@vpn-api/db';
import { decideAdminRefund } from '../domain/decide-refund.ts';
import { DomainError, invalidField } from '../domain/errors.ts';
import { addSeconds } from '../domain/instant.ts';
import { parseAmount } from '../domain/money.ts';
import type { Money } from '../domain/settlement.ts';
import { applyActions } from './apply-settlement.ts';
import { newRound } from './ask-provider.ts';
import { audit } from './audit.ts';
import { carryOutRefund, type RefundDeps, wasRefused } from './carry-out-refund.ts';
import type { Committing } from './committing.ts';
import { snapshotAround } from './settle-payment.ts';

export interface RefundPayment {
  readonly paymentId: number;
  /** In the currency that came; without it all that is left. */
  readonly amount?: string | number | null | undefined;
  readonly reason: string;
  /** Done outside, only recorded. */
  readonly isExternal: boolean;
}

/** Until then the call that made the row is still at work; afterwards the background job takes over with the same key. */
const FIRST_ATTEMPT_SECONDS = 60;

/**
 * Pays back, in whole or in part. Our row is committed before the provider is asked, so that a refund whose outcome
 * nobody heard is asked for again, under the same key, until it is known. Answers the payment as it is then: a refund
 * that the provider still works on shows once it is done.
 * @throws DomainError `payment_not_found`, `nothing_to_refund`, `refund_not_supported`, `validation_failed` for more
 * than is left, `payment_not_open` for a part of a payment in review, `provider_refused`
 */
export async function refundPayment(
  deps: RefundDeps,
  input: RefundPayment,
  committing: Committing<RefundRow>,
): Promise<PaymentRow> {
  const refund = await deps.store.transaction((tx) => openRefund(deps, tx, input, committing));
  if (refund.status === 'pending') {
    await carryOutRefund(deps, newRound(new AbortController().signal), refund);
    deps.paymentPolls.wake();
  }
  return outcomeOfRefund(deps.store, refund.id);
}

/**
 * The payment as it is after a refund that was asked for before.
 * @throws DomainError `provider_refused`
 */
export async function outcomeOfRefund(q: Queryable, refundId: number): Promise<PaymentRow> {
  const refund = await findRefund(q, refundId);
  const payment = refund && (await findPayment(q, refund.payment_id));
  if (refund === undefined || payment === undefined) throw new DomainError('payment_not_found');
  if (wasRefused(refund)) throw new DomainError('provider_refused');
  return payment;
}

async function openRefund(
  deps: RefundDeps,
  tx: Tx,
  input: RefundPayment,
  { source, beforeCommit }: Committing<RefundRow>,
): Promise<RefundRow> {
  const now = deps.clock.now();
  const { payment, snapshot } = await lockPaid(tx, input.paymentId);
  if (!input.isExternal) checkRefundable(deps, payment);
  const known = await listRefunds(tx, payment.id);
  const paid = snapshot.received ?? payment;
  const { amountMinor, row } = chooseAmount(input, { known, paid });
  const decision = decideAdminRefund(snapshot, { amountMinor, row }, now);
  if (!decision.ok) throw new DomainError(decision.code);
  const refund = row ?? (await insertOwn(tx, { payment, input, amountMinor, now }));
  if (input.isExternal) await recordExternal(deps, tx, { payment, snapshot, refund });
  const { reason, isExternal } = input;
  const details = {
    refund_id: refund.id,
    amount_minor: amountMinor,
    currency: paid.currency,
    reason,
    external: isExternal,
  };
  await audit(tx, { ...source, at: now, action: 'payment.refund', target: `payment:${payment.id}`, details });
  await beforeCommit(tx, refund);
  return input.isExternal ? { ...refund, status: 'succeeded' } : refund;
}

type Snapshot = Awaited<ReturnType<typeof snapshotAround>>;

async function lockPaid(tx: Tx, paymentId: number): Promise<{ payment: PaymentRow; snapshot: Snapshot }> {
  const unlocked = await findPayment(tx, paymentId);
  if (unlocked === undefined) throw new DomainError('payment_not_found');
  const user = await lockUser(tx, unlocked.user_id);
  const payment = (await findPayment(tx, paymentId)) ?? unlocked;
  return { payment, snapshot: await snapshotAround(tx, payment, user) };
}

function checkRefundable({ providers }: RefundDeps, { provider, provider_payment_id }: PaymentRow): void {
  const canRefund = providers.get(provider)?.refund !== undefined && provider_payment_id !== null;
  if (!canRefund) throw new DomainError('refund_not_supported');
}

interface Refundable {
  readonly known: readonly RefundRow[];
  readonly paid: Money;
}

/** What is on its way counts as gone: of two admins who press the button at once one is refused. */
function chooseAmount(
  { amount, isExternal }: RefundPayment,
  { known, paid }: Refundable,
): { amountMinor: number; row?: RefundRow } {
  const wanted = amount == null ? undefined : parseAmount(amount, paid.currency);
  const row = isExternal
    ? known.find((refund) => isGivenUp(refund) && (wanted ?? refund.amount_minor) === refund.amount_minor)
    : undefined;
  if (row !== undefined) return { amountMinor: row.amount_minor, row };
  const gone = known
    .filter(({ status }) => status !== 'failed')
    .reduce((sum, { amount_minor }) => sum + amount_minor, 0);
  const left = paid.amount_minor - gone;
  if (left <= 0) throw new DomainError('nothing_to_refund');
  const amountMinor = wanted ?? left;
  if (amountMinor <= 0 || amountMinor > left)
    throw invalidField('amount', 'must be more than 0 and at most what is left');
  return { amountMinor };
}

/** One that was asked for, without ever hearing what became of it: only a person can say. */
function isGivenUp({ status, next_attempt_at, provider_refund_id }: RefundRow): boolean {
  return status === 'pending' && next_attempt_at === null && provider_refund_id === null;
}

interface OwnRefund {
  readonly payment: PaymentRow;
  readonly input: RefundPayment;
  readonly amountMinor: number;
  readonly now: string;
}

function insertOwn(tx: Tx, { payment, input, amountMinor, now }: OwnRefund): Promise<RefundRow> {
  return insertRefund(tx, {
    payment_id: payment.id,
    provider: payment.provider,
    provider_refund_id: null,
    amount_minor: amountMinor,
    source: input.isExternal ? 'external' : 'admin',
    status: 'pending',
    reason: input.reason,
    next_attempt_at: input.isExternal ? null : addSeconds(now, FIRST_ATTEMPT_SECONDS),
    created_at: now,
  });
}

interface External {
  readonly payment: PaymentRow;
  readonly snapshot: Snapshot;
  readonly refund: RefundRow;
}

async function recordExternal(deps: RefundDeps, tx: Tx, { payment, snapshot, refund }: External): Promise<void> {
  const decision = decideAdminRefund(snapshot, { amountMinor: refund.amount_minor, row: refund }, deps.clock.now());
  if (!decision.ok) throw new DomainError(decision.code);
  await applyActions(deps, tx, { actions: decision.actions, provider: payment.provider, userId: payment.user_id });
}
