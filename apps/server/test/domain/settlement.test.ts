import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decideAdminRefund } from '../../src/domain/decide-refund.ts';
import { decideResolution } from '../../src/domain/decide-resolution.ts';
import { decideSettlement } from '../../src/domain/decide-settlement.ts';
import { addSeconds, type Instant } from '../../src/domain/instant.ts';
import { isPaid } from '../../src/domain/payment.ts';
import type { SettlementEvent, SettlementPayment, SettlementSnapshot } from '../../src/domain/settlement.ts';
import { subscriptionAt } from '../../src/domain/subscription.ts';
import { Ledger } from './ledger.ts';
import { day, period, START, terms } from './periods.ts';

const completed = (overrides: Partial<SettlementEvent> = {}): SettlementEvent => ({
  provider: 'standard',
  type: 'completed',
  reference: 'ref-1',
  chargeId: 'c1',
  amountMinor: 999,
  currency: 'USD',
  ...overrides,
});
const failed = (overrides: Partial<SettlementEvent> = {}) =>
  completed({ type: 'failed', chargeId: undefined, amountMinor: undefined, currency: undefined, ...overrides });
const refunded = (overrides: Partial<SettlementEvent> = {}) =>
  completed({ type: 'refunded', refundId: 'r1', ...overrides });

function ledgerWith(...payments: Partial<SettlementPayment>[]): Ledger {
  const ledger = new Ledger();
  for (const payment of payments) ledger.open(payment);
  return ledger;
}

describe('a completed payment', () => {
  it('is bound to its charge and grants the tariff as sold, once', () => {
    const ledger = ledgerWith({ terms: terms({ duration_days: 90, device_limit: 4 }) });
    expect(ledger.receive(completed(), START)).toMatchObject({ outcome: 'settled', payment_id: 1 });
    expect(ledger.payment(1)).toMatchObject({ status: 'completed', provider_payment_id: 'c1' });
    expect(ledger.grantsOf(1)).toMatchObject([{ ends_at: day(90), device_limit: 4, price_minor: 999 }]);
  });

  it('is found by its preset charge id alone', () => {
    const ledger = ledgerWith({ provider_payment_id: 'c1' });
    expect(ledger.receive(completed({ reference: undefined }), START).outcome).toBe('settled');
  });

  it('is a duplicate when its charge is known, in whatever state the payment is', () => {
    const ledger = ledgerWith({}, {});
    ledger.receive(completed(), START);
    ledger.receive(completed({ reference: 'ref-2', chargeId: 'c2', amountMinor: 1 }), START);
    for (const event of [completed(), completed({ reference: undefined }), completed({ paymentId: 1 })]) {
      expect(ledger.receive(event, day(1))).toEqual({ outcome: 'duplicate', payment_id: 1, actions: [] });
    }
    expect(ledger.receive(completed({ reference: 'ref-2', chargeId: 'c2', amountMinor: 1 }), day(1)).outcome).toBe(
      'duplicate',
    );
  });

  it('is settled when the provider had given up on it before', () => {
    const ledger = ledgerWith({});
    expect(ledger.receive(failed(), START).outcome).toBe('settled');
    expect(ledger.receive(completed(), day(1)).outcome).toBe('settled');
    expect(ledger.payment(1).status).toBe('completed');
  });

  it.each([
    [{ amountMinor: 998 }, 'amount_mismatch'],
    [{ amountMinor: 1000 }, 'amount_mismatch'],
    [{ currency: 'EUR' }, 'currency_mismatch'],
  ] as const)('with %j waits for a person and grants nothing', (change, reason) => {
    const ledger = ledgerWith({});
    expect(ledger.receive(completed(change), START)).toMatchObject({ outcome: 'settled', reason });
    expect(ledger.payment(1)).toMatchObject({ status: 'needs_review', provider_payment_id: 'c1' });
    expect(ledger.periods).toEqual([]);
  });

  it('in a currency that cannot be counted waits for a person, on money that is already settled too', () => {
    const ledger = ledgerWith({});
    const foreign = { currency: 'XYZ', amountMinor: undefined };
    expect(ledger.receive(completed(foreign), START)).toMatchObject({
      outcome: 'settled',
      reason: 'currency_mismatch',
    });
    expect(ledger.receive(completed(foreign), START).outcome).toBe('duplicate');
    expect(ledger.receive(completed({ ...foreign, chargeId: 'c2' }), START)).toMatchObject({
      outcome: 'held',
      reason: 'amount_missing',
    });
    expect(ledger.payments).toHaveLength(1);
  });

  it('that an admin rejected stays rejected', () => {
    const rejected = { status: 'failed', provider_payment_id: 'c1', review_reason: 'already_lifetime' } as const;
    expect(ledgerWith(rejected).receive(completed(), START)).toMatchObject({ outcome: 'duplicate', actions: [] });
    const givenUp = { ...rejected, review_reason: null };
    expect(ledgerWith(givenUp).receive(completed(), START).outcome).toBe('settled');
  });

  it('on top of a lifetime, or of a removed user, waits for a person', () => {
    const ledger = ledgerWith({ terms: terms({ duration_days: null }) }, {}, { user_id: 8 });
    ledger.removedUsers.add(8);
    ledger.receive(completed(), START);
    expect(ledger.receive(completed({ reference: 'ref-2', chargeId: 'c2' }), START).reason).toBe('already_lifetime');
    expect(ledger.receive(completed({ reference: 'ref-3', chargeId: 'c3' }), START).reason).toBe('user_removed');
    expect(ledger.periods).toHaveLength(1);
  });

  it('never grants for a payment that has a period already', () => {
    const snapshot = { ...ledgerWith({}).snapshot(completed()), periods: [period({ payment_id: 1 })] };
    expect(decideSettlement(snapshot, completed(), START)).toMatchObject({ reason: 'already_granted' });
  });

  it.each([
    [{ chargeId: undefined }, 'charge_missing'],
    [{ amountMinor: undefined }, 'amount_missing'],
    [{ currency: undefined }, 'amount_missing'],
  ] as const)('without %j is held', (change, reason) => {
    const ledger = ledgerWith({});
    expect(ledger.receive(completed(change), START)).toMatchObject({ outcome: 'held', reason, actions: [] });
  });
});

describe('another charge', () => {
  it('on a settled payment is new money: a child that waits for a person', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed(), START);
    const extra = completed({ chargeId: 'c2' });
    expect(ledger.receive(extra, START)).toMatchObject({ outcome: 'settled', reason: 'extra_charge' });
    expect(ledger.payment(2)).toMatchObject({ parent_id: 1, status: 'needs_review', provider_payment_id: 'c2' });
    expect(ledger.receive(extra, START)).toEqual({ outcome: 'duplicate', payment_id: 2, actions: [] });
    expect(ledger.periods).toHaveLength(1);
  });

  it('that is a declared renewal at the same price is a child with its own period', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed(), START);
    const renewal = completed({ chargeId: 'c2', renewal: true });
    expect(ledger.receive(renewal, day(29)).outcome).toBe('settled');
    expect(ledger.receive(renewal, day(29)).outcome).toBe('duplicate');
    expect(ledger.payment(2)).toMatchObject({ parent_id: 1, status: 'completed' });
    expect(ledger.grantsOf(2)).toMatchObject([{ starts_at: day(30), ends_at: day(60) }]);
  });

  it('that is a declared renewal at another price waits for a person', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed(), START);
    expect(ledger.receive(completed({ chargeId: 'c2', renewal: true, amountMinor: 1 }), START).reason).toBe(
      'amount_mismatch',
    );
    expect(ledger.payment(2)).toMatchObject({ status: 'needs_review', amount_minor: 1 });
  });

  it('that renews a payment still in review waits with it', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed({ amountMinor: 1 }), START);
    expect(ledger.receive(completed({ chargeId: 'c2', renewal: true }), START).reason).toBe('extra_charge');
    expect(ledger.periods).toEqual([]);
  });

  it('than the preset one is held while the payment is open', () => {
    const ledger = ledgerWith({ provider_payment_id: 'preset' });
    expect(ledger.receive(completed(), START)).toMatchObject({ outcome: 'held', reason: 'charge_mismatch' });
    expect(ledger.receive(failed({ chargeId: 'c9' }), START)).toMatchObject({ outcome: 'held' });
    expect(ledger.payment(1)).toMatchObject({ status: 'pending', provider_payment_id: 'preset' });
  });
});

describe('identifiers', () => {
  it('never match by a bare payment id', () => {
    const ledger = ledgerWith({});
    const event = completed({ reference: undefined, paymentId: 1 });
    expect(ledger.receive(event, START)).toMatchObject({ outcome: 'parked', reason: 'payment_unknown' });
  });

  it('of a payment that is not there yet are parked, and settle when it is', () => {
    const ledger = new Ledger();
    expect(ledger.receive(completed(), START).outcome).toBe('parked');
    ledger.open();
    ledger.open({ user_id: 8 });
    ledger.receive(completed({ reference: 'ref-2', chargeId: 'c2' }), START);
    expect(ledger.payment(1).status).toBe('completed');
    expect(ledger.parked).toEqual([]);
  });

  it.each([
    ['another provider', { provider: 'shop2' }, 'provider_mismatch'],
    ['the reference of one payment and the id of another', { paymentId: 2 }, 'identifiers_disagree'],
    ['an id that no payment has', { paymentId: 99 }, 'identifiers_disagree'],
    ['the reference of one payment and the charge of another', { chargeId: 'bound' }, 'identifiers_disagree'],
    ['an unknown reference and a known charge', { reference: 'x', chargeId: 'bound' }, 'identifiers_disagree'],
  ] as const)('of %s are held and change nothing', (_, change, reason) => {
    const ledger = ledgerWith({}, { provider_payment_id: 'bound' });
    for (const event of [completed(change), failed(change), refunded(change)]) {
      expect(ledger.receive(event, START)).toMatchObject({ outcome: 'held', reason, actions: [] });
    }
  });

  it('may be overruled by an admin, but not the provider and not the charge', () => {
    const ledger = ledgerWith({}, { provider_payment_id: 'bound' }, { provider: 'shop2' });
    const lost = completed({ reference: 'typo' });
    expect(ledger.receive(completed({ chargeId: 'bound' }), START, 1).outcome).toBe('held');
    expect(ledger.receive(lost, START, 3)).toMatchObject({ outcome: 'held', reason: 'provider_mismatch' });
    expect(ledger.receive(lost, START, 1)).toMatchObject({ outcome: 'settled', payment_id: 1 });
    expect(ledger.receive(lost, START, 1).outcome).toBe('duplicate');
  });
});

describe('a failure', () => {
  it('closes a pending payment and means nothing after that', () => {
    const ledger = ledgerWith({}, {});
    expect(ledger.receive(failed(), START).outcome).toBe('settled');
    expect(ledger.receive(failed(), START).outcome).toBe('ignored');
    ledger.receive(completed({ reference: 'ref-2' }), START);
    expect(ledger.receive(failed({ reference: 'ref-2' }), START).outcome).toBe('ignored');
    expect(ledger.payment(2).status).toBe('completed');
  });
});

describe('a refund', () => {
  it('in parts cuts the period by its share and ends it with the last part', () => {
    const ledger = ledgerWith({ amount_minor: 900 });
    ledger.receive(completed({ amountMinor: 900 }), START);
    expect(ledger.receive(refunded({ amountMinor: 300 }), day(3)).outcome).toBe('settled');
    expect(ledger.payment(1)).toMatchObject({ status: 'partially_refunded', refunded_minor: 300 });
    expect(ledger.chainOf(7)).toMatchObject([{ ends_at: day(20), revoked_at: null }]);
    ledger.receive(refunded({ amountMinor: 600, refundId: 'r2' }), day(4));
    expect(ledger.payment(1)).toMatchObject({ status: 'refunded', refunded_minor: 900 });
    expect(ledger.chainOf(7)).toMatchObject([{ ends_at: day(4), revoked_at: day(4) }]);
  });

  it('counts once for each refund id, even if two are of the same amount', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed(), START);
    ledger.receive(refunded({ amountMinor: 100 }), START);
    expect(ledger.receive(refunded({ amountMinor: 100 }), START).outcome).toBe('duplicate');
    expect(ledger.receive(refunded({ amountMinor: 100, refundId: 'r2' }), START).outcome).toBe('settled');
    expect(ledger.payment(1).refunded_minor).toBe(200);
  });

  it('of more than was paid is held', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed(), START);
    ledger.receive(refunded({ amountMinor: 500 }), START);
    const rest = refunded({ amountMinor: 500, refundId: 'r2' });
    expect(ledger.receive(rest, START)).toMatchObject({ outcome: 'held', reason: 'refund_exceeds_payment' });
  });

  it.each([
    [{ refundId: undefined }, 'refund_id_missing'],
    [{ amountMinor: undefined }, 'amount_missing'],
    [{ amountMinor: 0 }, 'amount_missing'],
    [{ currency: 'EUR' }, 'currency_mismatch'],
  ] as const)('with %j is held', (change, reason) => {
    const ledger = ledgerWith({});
    ledger.receive(completed(), START);
    expect(ledger.receive(refunded(change), START)).toMatchObject({ outcome: 'held', reason });
  });

  it('whose id belongs to another payment, or came with another amount, is held', () => {
    const ledger = ledgerWith({}, {});
    ledger.receive(completed(), START);
    ledger.receive(completed({ reference: 'ref-2', chargeId: 'c2' }), START);
    ledger.receive(refunded({ amountMinor: 100 }), START);
    expect(ledger.receive(refunded({ reference: 'ref-2', chargeId: 'c2', amountMinor: 100 }), START).reason).toBe(
      'identifiers_disagree',
    );
    expect(ledger.receive(refunded({ amountMinor: 200 }), START).reason).toBe('refund_amount_mismatch');
  });

  it('that overtakes its payment leaves nothing granted', () => {
    const ledger = ledgerWith({});
    expect(ledger.receive(refunded({ chargeId: undefined }), START).outcome).toBe('settled');
    expect(ledger.receive(completed(), day(1))).toMatchObject({ outcome: 'ignored', reason: 'already_refunded' });
    expect(ledger.payment(1)).toMatchObject({ status: 'refunded', provider_payment_id: 'c1' });
    expect(ledger.receive(completed(), day(1)).outcome).toBe('duplicate');
    expect(ledger.periods).toEqual([]);
  });

  it('that overtakes its payment keeps the charge it names, so that other money is told apart', () => {
    const ledger = ledgerWith({});
    ledger.receive(refunded(), START);
    expect(ledger.payment(1)).toMatchObject({ status: 'refunded', provider_payment_id: 'c1' });
    expect(ledger.receive(completed({ chargeId: 'c2' }), START).reason).toBe('extra_charge');
    expect(ledger.receive(completed(), START).outcome).toBe('duplicate');
  });

  it('of a part that overtakes its payment waits for it', () => {
    const ledger = ledgerWith({ amount_minor: 900 });
    expect(ledger.receive(refunded({ amountMinor: 300 }), START).outcome).toBe('parked');
    ledger.receive(completed({ amountMinor: 900 }), START);
    expect(ledger.payment(1)).toMatchObject({ status: 'partially_refunded', refunded_minor: 300 });
    expect(ledger.chainOf(7)).toMatchObject([{ ends_at: day(20) }]);
  });

  it('of a payment that failed waits: the money must have come before it can go back', () => {
    const ledger = ledgerWith({});
    ledger.receive(failed(), START);
    expect(ledger.receive(refunded(), START).outcome).toBe('parked');
    ledger.receive(completed(), START);
    expect(ledger.payment(1).status).toBe('refunded');
    expect(subscriptionAt(ledger.chainOf(7), START).status).toBe('revoked');
  });

  it('of all that came for a payment in review closes it', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed({ amountMinor: 500 }), START);
    expect(ledger.receive(refunded({ amountMinor: 999 }), START).reason).toBe('refund_exceeds_payment');
    expect(ledger.receive(refunded({ amountMinor: 500 }), START).outcome).toBe('settled');
    expect(ledger.payment(1)).toMatchObject({ status: 'refunded', refunded_minor: 500 });
  });

  it('is measured by what came, also after an admin accepted another amount', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed({ amountMinor: 500 }), START);
    ledger.act(decideResolution(ledger.snapshotOf(1), 'accept', START));
    ledger.receive(refunded({ amountMinor: 250 }), START);
    expect(ledger.chainOf(7)).toMatchObject([{ ends_at: day(15) }]);
    ledger.receive(refunded({ amountMinor: 250, refundId: 'r2' }), START);
    expect(ledger.payment(1).status).toBe('refunded');
    expect(ledger.receive(refunded({ amountMinor: 1, refundId: 'r3' }), START).reason).toBe('refund_exceeds_payment');
  });

  it('of an extra charge goes to the child, also when it comes first', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed(), START);
    expect(ledger.receive(refunded({ chargeId: 'c2' }), START)).toMatchObject({
      outcome: 'parked',
      reason: 'charge_unknown',
    });
    ledger.receive(completed({ chargeId: 'c2' }), START);
    expect(ledger.payment(1)).toMatchObject({ status: 'completed', refunded_minor: 0 });
    expect(ledger.payment(2)).toMatchObject({ status: 'refunded', refunded_minor: 999 });
  });

  it('confirms the request of ours that it answers instead of counting twice', () => {
    const ledger = ledgerWith({});
    ledger.receive(completed(), START);
    const waiting = { provider: 'standard', payment_id: 1, amount_minor: 100, status: 'pending' } as const;
    ledger.refunds.push({ ...waiting, id: 1, provider_refund_id: null });
    ledger.receive(refunded({ amountMinor: 100 }), START);
    expect(ledger.refunds).toMatchObject([{ id: 1, provider_refund_id: 'r1', status: 'succeeded' }]);
    ledger.refunds.push({ ...waiting, id: 2, provider_refund_id: 'r2' });
    ledger.receive(refunded({ amountMinor: 100, refundId: 'r2' }), START);
    expect(ledger.refunds).toHaveLength(2);
    expect(ledger.payment(1).refunded_minor).toBe(200);
  });

  it('in part of a lifetime is recorded and flagged, and takes nothing', () => {
    const ledger = ledgerWith({ terms: terms({ duration_days: null }) });
    ledger.receive(completed(), START);
    expect(ledger.receive(refunded({ amountMinor: 500 }), day(1))).toMatchObject({
      outcome: 'settled',
      reason: 'lifetime_partial_refund',
    });
    expect(subscriptionAt(ledger.chainOf(7), day(500)).is_lifetime).toBe(true);
    ledger.receive(refunded({ amountMinor: 499, refundId: 'r2' }), day(2));
    expect(ledger.chainOf(7)).toMatchObject([{ ends_at: day(2) }]);
  });

  it('by an admin does what the event would have done', () => {
    const [byEvent, byAdmin] = [ledgerWith({}), ledgerWith({})];
    for (const ledger of [byEvent, byAdmin]) ledger.receive(completed(), START);
    byEvent.receive(refunded({ amountMinor: 400 }), day(1));
    byAdmin.act(decideAdminRefund(byAdmin.snapshotOf(1), { amountMinor: 400, providerRefundId: 'r1' }, day(1)));
    expect(byAdmin).toEqual(byEvent);
    expect(byAdmin.receive(refunded({ amountMinor: 400 }), day(2)).outcome).toBe('duplicate');
    expect(decideAdminRefund(byAdmin.snapshotOf(1), { amountMinor: 600 }, day(1))).toEqual({
      ok: false,
      code: 'validation_failed',
    });
  });

  it('by an admin is refused for money that never came', () => {
    const ledger = ledgerWith({});
    expect(decideAdminRefund(ledger.snapshotOf(1), { amountMinor: 999 }, START).ok).toBe(false);
  });
});

describe('the word of an admin', () => {
  it('grants what was sold, or closes the payment', () => {
    const ledger = ledgerWith({}, {});
    ledger.receive(completed({ amountMinor: 1 }), START);
    ledger.receive(completed({ reference: 'ref-2', chargeId: 'c2', amountMinor: 1 }), START);
    ledger.act(decideResolution(ledger.snapshotOf(1), 'accept', day(1)));
    ledger.act(decideResolution(ledger.snapshotOf(2), 'reject', day(1)));
    expect(ledger.payments.map((row) => row.status)).toEqual(['completed', 'failed']);
    expect(ledger.periods).toHaveLength(1);
    expect(decideResolution(ledger.snapshotOf(1), 'accept', day(1))).toEqual({ ok: false, code: 'payment_not_open' });
  });

  it('completes a pending payment only if it is manual', () => {
    const ledger = ledgerWith({ provider: 'manual' }, {});
    ledger.act(decideResolution(ledger.snapshotOf(1), 'accept', START));
    expect(ledger.payment(1)).toMatchObject({ status: 'completed', provider_payment_id: null });
    expect(decideResolution(ledger.snapshotOf(2), 'accept', START).ok).toBe(false);
  });

  it('cannot sell time on top of a lifetime', () => {
    const ledger = ledgerWith({ terms: terms({ duration_days: null }) }, { provider: 'manual' });
    ledger.receive(completed(), START);
    expect(decideResolution(ledger.snapshotOf(2), 'accept', START)).toEqual({ ok: false, code: 'already_lifetime' });
  });
});

/** Events that are mostly about three payments of two users, with every kind of mistake a sender can make. */
const anyEvent: fc.Arbitrary<SettlementEvent> = fc.record({
  provider: fc.constantFrom('standard', 'standard', 'standard', 'shop2'),
  type: fc.constantFrom(
    ...(['completed', 'completed', 'completed', 'failed', 'refunded', 'refunded', 'refunded'] as const),
    ...(['disputed', 'dispute_won', 'dispute_lost'] as const),
  ),
  reference: fc.constantFrom('ref-1', 'ref-2', 'ref-3', 'ref-4', 'nowhere', undefined),
  paymentId: fc.constantFrom(undefined, undefined, undefined, 1, 2, 99),
  chargeId: fc.constantFrom('c1', 'c2', 'c3', 'preset', undefined),
  refundId: fc.constantFrom('r1', 'r2', 'r3', undefined),
  amountMinor: fc.constantFrom(999, 999, 999, 333, 333, 666, 1, 0, undefined),
  currency: fc.constantFrom('USD', 'USD', 'USD', 'USD', 'EUR', undefined),
  renewal: fc.constantFrom(undefined, undefined, true),
});

const paymentSets = fc.constantFrom<readonly Partial<SettlementPayment>[]>(
  [{}, {}, { user_id: 8 }],
  [{}, { provider_payment_id: 'preset' }, { user_id: 8, terms: terms({ duration_days: null }) }],
  [{ terms: terms({ duration_days: null }) }, {}, { provider: 'shop2' }],
);

function assertInvariants(ledger: Ledger): void {
  for (const payment of ledger.payments) {
    const grants = ledger.grantsOf(payment.id);
    const received = payment.charged?.amount_minor ?? payment.amount_minor;
    const refunds = ledger.refunds.filter((row) => row.payment_id === payment.id && row.status === 'succeeded');
    // I2: one grant for money that was kept, none for money that never settled.
    if (isPaid(payment.status)) expect(grants).toHaveLength(1);
    else if (payment.status !== 'refunded') expect(grants).toHaveLength(0);
    // I4: no more goes back than came, and the sum is that of the refunds.
    expect(payment.refunded_minor).toBeLessThanOrEqual(received);
    expect(refunds.reduce((sum, row) => sum + row.amount_minor, 0)).toBe(payment.refunded_minor);
    if (['refunded', 'partially_refunded'].includes(payment.status)) expect(payment.refunded_minor).toBeGreaterThan(0);
    if (['pending', 'completed'].includes(payment.status)) expect(payment.refunded_minor).toBe(0);
    // A payment that kept nothing gives no time from now on.
    if (payment.status === 'refunded') expect(grants.every((row) => row.revoked_at !== null)).toBe(true);
  }
  // I3: what each user has is what was granted less what was cut, once.
  for (const user of [7, 8]) {
    const chain = ledger.chainOf(user);
    for (const [i, row] of chain.slice(1).entries()) expect(row.starts_at >= (chain[i]?.ends_at ?? '')).toBe(true);
    for (const row of chain) expect(row.cut_seconds).toBeLessThanOrEqual(row.length_seconds ?? 0);
  }
}

describe('any sequence of events', () => {
  const steps = fc.array(fc.tuple(anyEvent, fc.nat({ max: 20 * 86_400 })), { maxLength: 30 });

  // I5 and the unique constraints are enforced by the ledger itself, which throws.
  it('keeps one grant a charge, refunds within what was paid, and states on their graph', () => {
    fc.assert(
      fc.property(paymentSets, steps, (payments, events) => {
        const ledger = ledgerWith(...payments);
        let now: Instant = START;
        for (const [event, seconds] of events) {
          now = addSeconds(now, seconds);
          ledger.receive(event, now);
          assertInvariants(ledger);
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('grants at most once for a charge, however often and in whatever mixture it is delivered', () => {
    fc.assert(
      fc.property(paymentSets, steps, (payments, events) => {
        const ledger = ledgerWith(...payments);
        const grantsByCharge = new Map<string, number>();
        for (const [event] of events) {
          const before = ledger.periods.length;
          ledger.receive(event, START);
          for (const granted of ledger.periods.slice(before)) {
            const { provider, provider_payment_id } = ledger.payment(granted.payment_id ?? 0);
            const charge = `${provider}/${provider_payment_id}`;
            grantsByCharge.set(charge, (grantsByCharge.get(charge) ?? 0) + 1);
          }
        }
        expect([...grantsByCharge.values()].every((count) => count === 1)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  it('is not changed by delivering any of them again at once', () => {
    fc.assert(
      fc.property(paymentSets, steps, (payments, events) => {
        const ledger = ledgerWith(...payments);
        let now: Instant = START;
        for (const [event, seconds] of events) {
          now = addSeconds(now, seconds);
          ledger.receive(event, now);
          const before = structuredClone([ledger.payments, ledger.periods, ledger.refunds]);
          const again = ledger.receive(event, now);
          expect(['duplicate', 'ignored', 'held', 'parked']).toContain(again.outcome);
          expect([ledger.payments, ledger.periods, ledger.refunds]).toEqual(before);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('acts only when the sender is the provider and every identifier names the payment', () => {
    fc.assert(
      fc.property(paymentSets, steps, (payments, events) => {
        const ledger = ledgerWith(...payments);
        for (const [event] of events) {
          const snapshot = ledger.snapshot(event);
          const { actions, outcome } = decideSettlement(snapshot, event, START);
          const target = snapshot.byCharge ?? snapshot.byReference;
          const names = [target?.id, target?.parent_id];
          const parent = ledger.payments.find((row) => row.id === target?.parent_id);
          const isNamed =
            target !== undefined &&
            target.provider === event.provider &&
            (event.paymentId === undefined || names.includes(event.paymentId)) &&
            (event.reference === undefined || [target.reference, parent?.reference].includes(event.reference));
          if (!isNamed) expect([actions, ['held', 'parked'].includes(outcome)]).toEqual([[], true]);
          ledger.receive(event, START);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('of one payment and its refunds ends the same in every order', () => {
    const story = [
      completed({ amountMinor: 999 }),
      failed(),
      refunded({ amountMinor: 333 }),
      refunded({ amountMinor: 333, refundId: 'r2' }),
    ];
    const whole = [completed(), failed(), refunded()];
    for (const events of [story, whole]) {
      fc.assert(
        fc.property(fc.shuffledSubarray(events, { minLength: events.length }), fc.array(fc.nat()), (order, repeats) => {
          const ledger = ledgerWith({});
          const withRepeats = repeats.reduce(
            (list, n) => list.toSpliced((n % list.length) + 1, 0, list[n % list.length] ?? failed()),
            order,
          );
          for (const event of withRepeats) ledger.receive(event, START);
          const { status, refunded_minor } = ledger.payment(1);
          const isWhole = events === whole;
          expect([status, refunded_minor]).toEqual(isWhole ? ['refunded', 999] : ['partially_refunded', 666]);
          expect(ledger.parked).toEqual([]);
          const access = subscriptionAt(ledger.chainOf(7), START);
          if (isWhole) expect(['none', 'revoked']).toContain(access.status);
          else expect(access).toMatchObject({ status: 'active', ended_at: addSeconds(START, 30 * 86_400 - 1_728_000) });
        }),
      );
    }
  });
});

describe('the decision', () => {
  const text = fc.option(fc.constantFrom('ref-1', 'ref-2', 'c1', 'c2', ''), { nil: undefined });
  const amount = fc.option(fc.oneof(fc.maxSafeNat(), fc.constant(999), fc.constant(-1)), { nil: undefined });
  const payment: fc.Arbitrary<SettlementPayment> = fc.record({
    id: fc.nat({ max: 3 }),
    parent_id: fc.option(fc.nat({ max: 3 })),
    user_id: fc.nat({ max: 3 }),
    reference: fc.constantFrom('ref-1', 'ref-2'),
    provider: fc.constantFrom('standard', 'shop2'),
    provider_payment_id: fc.option(fc.constantFrom('c1', 'c2')),
    status: fc.constantFrom('pending', 'completed', 'failed', 'refunded', 'partially_refunded', 'needs_review'),
    amount_minor: fc.oneof(fc.constant(999), fc.maxSafeNat()),
    currency: fc.constantFrom('USD', 'EUR'),
    refunded_minor: fc.maxSafeNat(),
    disputed_at: fc.constantFrom(null, START),
    apply: fc.constantFrom('now', 'extend'),
    terms: fc.constantFrom(terms(), terms({ duration_days: null })),
  });
  const snapshot: fc.Arbitrary<SettlementSnapshot> = fc.record({
    byReference: fc.option(payment, { nil: undefined }),
    byCharge: fc.option(payment, { nil: undefined }),
    forced: fc.option(payment, { nil: undefined }),
    user: fc.constantFrom({ removed_at: null }, { removed_at: START }),
    periods: fc.constantFrom([], [period({ payment_id: 1 })], [period({ length_seconds: null, payment_id: 2 })]),
    refunds: fc.array(
      fc.record({
        id: fc.nat(),
        payment_id: fc.nat({ max: 3 }),
        provider_refund_id: fc.option(fc.constantFrom('r1', 'r2')),
        amount_minor: fc.nat(),
        status: fc.constantFrom('pending', 'succeeded', 'failed'),
      }),
      { maxLength: 3 },
    ),
    disputes: fc.array(
      fc.record({
        dispute_id: fc.option(fc.constantFrom('r1', 'r2')),
        state: fc.constantFrom('open', 'won', 'lost'),
      }),
      { maxLength: 3 },
    ),
    received: fc.option(fc.record({ amount_minor: fc.nat(), currency: fc.constantFrom('USD', 'EUR') }), {
      nil: undefined,
    }),
  });
  const event: fc.Arbitrary<SettlementEvent> = fc.record({
    provider: fc.constantFrom('standard', 'shop2'),
    type: fc.constantFrom('completed', 'failed', 'refunded', 'disputed', 'dispute_won', 'dispute_lost'),
    reference: text,
    paymentId: fc.option(fc.nat({ max: 3 }), { nil: undefined }),
    chargeId: text,
    refundId: fc.option(fc.constantFrom('r1', 'r2', 'r3'), { nil: undefined }),
    amountMinor: amount,
    currency: fc.option(fc.constantFrom('USD', 'EUR'), { nil: undefined }),
    renewal: fc.option(fc.boolean(), { nil: undefined }),
  });

  it('exists for every input, acts only when it says so, and is the same every time', () => {
    fc.assert(
      fc.property(snapshot, event, (given, said) => {
        const decision = decideSettlement(given, said, START);
        expect(decideSettlement(given, said, START)).toEqual(decision);
        if (['held', 'parked', 'duplicate'].includes(decision.outcome)) expect(decision.actions).toEqual([]);
        if (decision.outcome === 'settled') expect(decision.actions.length).toBeGreaterThan(0);
        if (['held', 'parked', 'ignored'].includes(decision.outcome)) expect(decision.reason).toBeDefined();
        expect(decision.actions.filter((action) => action.kind === 'grant_period').length).toBeLessThanOrEqual(1);
      }),
      { numRuns: 5000 },
    );
  });
});
