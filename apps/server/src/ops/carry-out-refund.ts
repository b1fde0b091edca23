import {
  claimDueRefunds,
  findPayment,
  findRefund,
  findRefundByProviderId,
  listRefunds,
  lockUser,
  type Queryable,
  type RefundPatch,
  type RefundRow,
  type Tx,
  updateRefund,
} from '@vpn-api/db';
import { decideAdminRefund } from '../domain/decide-refund.ts';
import { addSeconds, secondsBetween } from '../domain/instant.ts';
import { retryAt } from '../domain/polling.ts';
import type { PaymentProvider, RefundAnswer, RefundRequest } from '../pay/provider.ts';
import type { Services } from '../services.ts';
import { applyActions, type SettleDeps } from './apply-settlement.ts';
import { askProvider, type Round } from './ask-provider.ts';
import { receivedMoney, settling, snapshotAround } from './settle-payment.ts';
import { sideBySide } from './side-by-side.ts';

export type RefundDeps = SettleDeps & Pick<Services, 'store' | 'providers' | 'log' | 'metrics' | 'paymentPolls'>;

const BATCH = 16;
const SIDE_BY_SIDE = 4;
const LEASE_SECONDS = 60;
/**
 * Providers forget keys after a day, and a repeat would then be a second refund. What is not known by now stays pending
 * until the provider reports it or an admin records it.
 */
const GIVE_UP_SECONDS = 20 * 3600;
/** A refund that the provider still works on is looked for this much later. */
const LOOK_AGAIN_SECONDS = 300;

/** Asks again for every refund whose outcome is unknown and whose time has come. */
export async function retryRefunds(deps: RefundDeps, round: Round): Promise<void> {
  while (!round.signal.aborted) {
    const now = deps.clock.now();
    const claim = { now, leaseUntil: addSeconds(now, LEASE_SECONDS), limit: BATCH };
    const claimed = await claimDueRefunds(deps.store, claim);
    if (claimed.length === 0) return;
    await sideBySide(claimed, SIDE_BY_SIDE, (refund) => carryOutRefund(deps, round, refund));
  }
}

/**
 * Asks the provider for one refund, with no transaction open, and records what it says. May be repeated at any time: the
 * key is the refund's own.
 */
export async function carryOutRefund(deps: RefundDeps, round: Round, refund: RefundRow): Promise<void> {
  const request = await requestOf(deps.store, refund);
  if (request === undefined) return stopAsking(deps, refund, {});
  const provider = deps.providers.get(refund.provider);
  // Its variables are gone; they may come back.
  if (provider?.refund === undefined) return planAttempt(deps, refund, 'the provider is not configured');
  const asked = await askProvider(deps, {
    provider: provider.name,
    call: 'refund',
    round,
    ask: (signal) => (provider as Required<PaymentProvider>).refund(request, signal),
  });
  if (!('failure' in asked)) return recordAnswer(deps, refund, asked.answer);
  const { kind, message } = asked.failure;
  deps.log.warn({ provider: refund.provider, refund_id: refund.id, err: asked.failure }, 'a refund did not go through');
  if (kind === 'refused') await stopAsking(deps, refund, { status: 'failed', last_error: message });
  else await planAttempt(deps, refund, message);
}

/** Undefined when the refund is decided already: the provider's own event can overtake us. */
async function requestOf(q: Queryable, { id, payment_id }: RefundRow): Promise<RefundRequest | undefined> {
  const refund = await findRefund(q, id);
  const payment = await findPayment(q, payment_id);
  if (refund?.status !== 'pending' || payment === undefined || payment.provider_payment_id === null) return undefined;
  const others = (await listRefunds(q, payment_id)).filter((other) => other.id !== id && other.status !== 'failed');
  const paid = (await receivedMoney(q, payment)) ?? payment;
  return {
    reference: payment.reference,
    chargeId: payment.provider_payment_id,
    payerId: payment.payer_id,
    amountMinor: refund.amount_minor,
    currency: paid.currency,
    isWhole: others.length === 0 && refund.amount_minor === paid.amount_minor,
    idempotencyKey: `refund-${payment.reference}-${id}`,
  };
}

async function recordAnswer(deps: RefundDeps, refund: RefundRow, answer: RefundAnswer): Promise<void> {
  if (answer.status === 'failed') {
    return stopAsking(deps, refund, { status: 'failed', last_error: 'the provider could not pay back' });
  }
  if (answer.status === 'pending') {
    const nextAt = addSeconds(deps.clock.now(), LOOK_AGAIN_SECONDS);
    return change(deps, refund, { provider_refund_id: answer.refundId, next_attempt_at: nextAt });
  }
  await settling(deps.store, (tx) => settleRefund(deps, tx, { refund, providerRefundId: answer.refundId }));
}

interface Settled {
  readonly refund: RefundRow;
  readonly providerRefundId: string;
}

async function settleRefund(deps: RefundDeps, tx: Tx, { refund, providerRefundId }: Settled): Promise<void> {
  const { payment, row, snapshot } = await lockRefund(tx, refund);
  if (row.status !== 'pending') return;
  const known = await findRefundByProviderId(tx, row.provider, providerRefundId);
  if (known !== undefined && known.id !== row.id) {
    const patch = { status: 'failed', last_error: `${RECORDED_AS} ${known.id}`, next_attempt_at: null } as const;
    await updateRefund(tx, row.id, patch);
    return;
  }
  const paidBack = { amountMinor: row.amount_minor, row, providerRefundId };
  const decision = decideAdminRefund(snapshot, paidBack, deps.clock.now());
  // The money went back, whatever the payment became meanwhile: only a person can bring the two together.
  if (!decision.ok) {
    deps.log.error(
      { refund_id: row.id, payment_id: payment.id },
      'a refund went through that the payment does not allow',
    );
    await updateRefund(tx, row.id, {
      provider_refund_id: providerRefundId,
      next_attempt_at: null,
      last_error: decision.code,
    });
    return;
  }
  await applyActions(deps, tx, { actions: decision.actions, provider: payment.provider, userId: payment.user_id });
  await updateRefund(tx, row.id, { next_attempt_at: null, last_error: null });
}

const RECORDED_AS = 'recorded as refund';

/** The provider said no, or could not. */
export function wasRefused({ status, last_error }: RefundRow): boolean {
  return status === 'failed' && last_error?.startsWith(RECORDED_AS) !== true;
}

async function lockRefund(tx: Tx, refund: RefundRow) {
  const unlocked = await findPayment(tx, refund.payment_id);
  const user = unlocked && (await lockUser(tx, unlocked.user_id));
  const payment = await findPayment(tx, refund.payment_id);
  const row = await findRefund(tx, refund.id);
  if (payment === undefined || row === undefined) throw new Error(`refund ${refund.id} has vanished`);
  return { payment, row, snapshot: await snapshotAround(tx, payment, user) };
}

/** A refund that is too old to be repeated under its key waits for its event, or for a person. */
async function planAttempt(deps: RefundDeps, refund: RefundRow, error: string): Promise<void> {
  const now = deps.clock.now();
  const attempts = refund.attempts + 1;
  const isTooOld = secondsBetween(refund.created_at, now) > GIVE_UP_SECONDS;
  if (isTooOld) deps.log.error({ refund_id: refund.id }, 'a refund stays unknown and waits for a person');
  await change(deps, refund, {
    attempts,
    last_error: error,
    next_attempt_at: isTooOld ? null : retryAt(now, attempts),
  });
}

function stopAsking(deps: RefundDeps, refund: RefundRow, patch: RefundPatch): Promise<void> {
  return change(deps, refund, { ...patch, next_attempt_at: null });
}

/** Unless it was decided meanwhile: then only the asking ends. */
async function change(deps: RefundDeps, refund: RefundRow, patch: RefundPatch): Promise<void> {
  await deps.store.transaction(async (tx) => {
    const { row } = await lockRefund(tx, refund);
    await updateRefund(tx, row.id, row.status === 'pending' ? patch : { next_attempt_at: null });
  });
}
