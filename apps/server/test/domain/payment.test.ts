import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canMove, hasReceivedMoney, isOpen, isPaid, type PaymentStatus } from '../../src/domain/payment.ts';

const STATUSES: PaymentStatus[] = ['pending', 'completed', 'failed', 'refunded', 'partially_refunded', 'needs_review'];
const EDGES = new Set([
  'pending>completed',
  'pending>failed',
  'pending>needs_review',
  'pending>refunded',
  'failed>completed',
  'failed>needs_review',
  'needs_review>completed',
  'needs_review>failed',
  'needs_review>refunded',
  'completed>partially_refunded',
  'completed>refunded',
  'partially_refunded>partially_refunded',
  'partially_refunded>refunded',
]);

describe('the states of a payment', () => {
  it('have exactly the promised moves', () => {
    const moves = STATUSES.flatMap((from) => STATUSES.filter((to) => canMove(from, to)).map((to) => `${from}>${to}`));
    expect(new Set(moves)).toEqual(EDGES);
  });

  it('never lead from money that came back to money that may still come', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...STATUSES), { maxLength: 30 }), (wishes) => {
        let status: PaymentStatus = 'pending';
        let wasRefunded = false;
        for (const wish of wishes) {
          if (canMove(status, wish)) status = wish;
          wasRefunded ||= status === 'refunded';
          if (wasRefunded) expect(status).toBe('refunded');
        }
      }),
    );
  });

  it('say whether money is awaited, has come, and has bought a period', () => {
    expect(STATUSES.filter(isOpen)).toEqual(['pending']);
    expect(STATUSES.filter(isPaid)).toEqual(['completed', 'partially_refunded']);
    expect(STATUSES.filter(hasReceivedMoney)).toEqual(['completed', 'refunded', 'partially_refunded', 'needs_review']);
  });
});
