import { proportion } from './money.ts';
import { hasReceivedMoney, isPaid, type PaymentStatus } from './payment.ts';
import { foldPeriods, graceEnd, piecesOf, type StoredPeriod } from './subscription.ts';

/** A period row as far as its books go: facts, and the columns that follow from them. */
export interface BookedPeriod extends StoredPeriod {
  readonly user_id: number;
  readonly payment_id: number | null;
  readonly grace_ends_at: string | null;
}

/** A payment and what other rows say about it. */
export interface BookedPayment {
  readonly id: number;
  readonly status: PaymentStatus;
  readonly amount_minor: number;
  readonly refunded_minor: number;
  /** Stays on a payment that an admin rejected. */
  readonly review_reason: string | null;
  readonly completed_at: string | null;
  /** What the charge brought, where it is known. */
  readonly received_minor: number;
  /** The sum of its refunds that succeeded. */
  readonly refunds_minor: number;
  /** 1 when a delivery that settled its charge is in the inbox. */
  readonly charged: number;
}

/** A column that differs from what the other rows say it must be. */
export interface Difference {
  readonly invariant: 'I2' | 'I3' | 'I4' | 'I5';
  /** `subscription_periods:5` */
  readonly row: string;
  readonly column: string;
  readonly stored: unknown;
  /** What it must be, or the rule that it breaks. */
  readonly derived: unknown;
}

/** Where the derived columns of one user's chain differ from the fold of its facts. */
export function checkFold(periods: readonly BookedPeriod[]): Difference[] {
  const stored = new Map(periods.map((period) => [period.id, period]));
  return foldPeriods(periods).flatMap((period) => {
    const row = stored.get(period.id);
    const derived = { starts_at: period.starts_at, ends_at: period.ends_at, grace_ends_at: graceEnd(period) };
    return (['starts_at', 'ends_at', 'grace_ends_at'] as const)
      .filter((column) => row?.[column] !== derived[column])
      .map((column) => ofPeriod(period, { column, stored: row?.[column], derived: derived[column] }));
  });
}

/** Where time of one user's chain was lost or doubled: what was moved must come again, and what was cut must be owed. */
export function checkTime(periods: readonly BookedPeriod[], payments: readonly BookedPayment[]): Difference[] {
  return [
    ...periods.flatMap((period) => checkPeriod(period, periods)),
    ...payments.flatMap((p) => checkCuts(p, periods)),
  ];
}

function checkPeriod(period: BookedPeriod, all: readonly BookedPeriod[]): Difference[] {
  const { length_seconds, cut_seconds, moved_seconds } = period;
  const rests = all.filter(({ rest_of_id }) => rest_of_id === period.id);
  const moved = rests.reduce((sum, { length_seconds: length }) => sum + (length ?? 0), 0);
  const differences: Difference[] = [];
  if (moved !== moved_seconds) {
    differences.push(ofPeriod(period, { column: 'moved_seconds', stored: moved_seconds, derived: moved }));
  }
  if (length_seconds !== null && cut_seconds + moved_seconds > length_seconds) {
    differences.push(ofPeriod(period, { column: 'cut_seconds', stored: cut_seconds, derived: 'more than its length' }));
  }
  if (cut_seconds > 0 && period.revoked_at === null && !isPaidFor(period, all)) {
    differences.push(ofPeriod(period, { column: 'cut_seconds', stored: cut_seconds, derived: 0 }));
  }
  return differences;
}

function isPaidFor(period: BookedPeriod, all: readonly BookedPeriod[]): boolean {
  const origin = period.rest_of_id === null ? undefined : all.find(({ id }) => id === period.rest_of_id);
  return origin === undefined ? period.payment_id !== null : isPaidFor(origin, all);
}

/** A refund never takes more than its share, and all of it leaves nothing; a revoke may take more. */
function checkCuts(payment: BookedPayment, periods: readonly BookedPeriod[]): Difference[] {
  const pieces = piecesOf(periods, payment.id);
  if (payment.status === 'refunded') {
    return pieces
      .filter(({ revoked_at }) => revoked_at === null)
      .map((piece) => ofPeriod(piece, { column: 'revoked_at', stored: null, derived: 'its payment was refunded' }));
  }
  const sold = pieces.find(({ rest_of_id }) => rest_of_id === null);
  if (sold?.length_seconds == null || pieces.some(({ revoked_at }) => revoked_at !== null)) return [];
  const { refunded_minor, received_minor } = payment;
  const owed = received_minor === 0 ? 0 : proportion(sold.length_seconds, refunded_minor, received_minor);
  const cut = pieces.reduce((sum, { cut_seconds }) => sum + cut_seconds, 0);
  return cut <= owed ? [] : [ofPeriod(sold, { column: 'cut_seconds', stored: cut, derived: `at most ${owed}` })];
}

/** Where the payments of one user differ from their events, refunds and periods. */
export function checkPayments(periods: readonly BookedPeriod[], payments: readonly BookedPayment[]): Difference[] {
  return payments.flatMap((payment) => {
    const grants = periods.filter(({ payment_id }) => payment_id === payment.id).length;
    return [...checkGrants(payment, grants), ...checkMoney(payment)];
  });
}

function checkGrants(payment: BookedPayment, grants: number): Difference[] {
  const { status } = payment;
  const isRight = isPaid(status) ? grants === 1 : status === 'refunded' ? grants <= 1 : grants === 0;
  if (isRight) return [];
  const derived = isPaid(status) ? 1 : 0;
  return [{ invariant: 'I2', row: `payments:${payment.id}`, column: 'periods', stored: grants, derived }];
}

function checkMoney(payment: BookedPayment): Difference[] {
  const { status, refunded_minor, refunds_minor } = payment;
  const differences: Omit<Difference, 'row'>[] = [];
  if (refunded_minor !== refunds_minor) {
    differences.push({ invariant: 'I4', column: 'refunded_minor', stored: refunded_minor, derived: refunds_minor });
  }
  const derived = statusOf(payment);
  if (status !== derived) differences.push({ invariant: 'I5', column: 'status', stored: status, derived });
  if (isPaid(status) && payment.completed_at === null) {
    differences.push({ invariant: 'I5', column: 'completed_at', stored: null, derived: 'a moment' });
  }
  return differences.map((difference) => ({ ...difference, row: `payments:${payment.id}` }));
}

/** The status that the money says, as far as it decides it; the rest is a person's or a provider's word. */
function statusOf(payment: BookedPayment): PaymentStatus {
  const { status, refunds_minor, received_minor } = payment;
  const isRejected = status === 'failed' && payment.review_reason !== null;
  if (isRejected) return status;
  const isWhole = refunds_minor > 0 && refunds_minor >= received_minor;
  if (isWhole) return 'refunded';
  if (status === 'needs_review') return status;
  if (refunds_minor > 0) return 'partially_refunded';
  if (payment.charged === 1 && !hasReceivedMoney(status)) return 'completed';
  return status === 'refunded' || status === 'partially_refunded' ? 'completed' : status;
}

function ofPeriod(
  period: Pick<BookedPeriod, 'id'>,
  difference: Pick<Difference, 'column' | 'stored' | 'derived'>,
): Difference {
  return { invariant: 'I3', row: `subscription_periods:${period.id}`, ...difference };
}
