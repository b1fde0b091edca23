import { findPayment, lockUser, type PaymentRow } from '@vpn-api/db';
import { decideResolution } from '../domain/decide-resolution.ts';
import { DomainError } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { applyActions, type SettleDeps } from './apply-settlement.ts';
import { type AuditSource, audit } from './audit.ts';
import { snapshotAround } from './settle-payment.ts';

type Deps = SettleDeps & Pick<Services, 'store'>;

interface ResolvePayment {
  readonly paymentId: number;
  readonly action: 'accept' | 'reject';
  readonly note?: string | undefined;
  readonly source: AuditSource;
}

/**
 * A person's word on a payment in review, or on a pending `manual` one.
 * @throws DomainError `payment_not_found`, `payment_not_open`, `already_lifetime`, `user_not_found`
 */
export async function resolvePayment(deps: Deps, input: ResolvePayment): Promise<PaymentRow> {
  const now = deps.clock.now();
  return deps.store.transaction(async (tx) => {
    const unlocked = await findPayment(tx, input.paymentId);
    if (unlocked === undefined) throw new DomainError('payment_not_found');
    const user = await lockUser(tx, unlocked.user_id);
    const payment = (await findPayment(tx, input.paymentId)) ?? unlocked;
    const snapshot = await snapshotAround(tx, payment, user);
    const decision = decideResolution(snapshot, input.action, now);
    if (!decision.ok) throw new DomainError(decision.code);
    await applyActions(deps, tx, { actions: decision.actions, provider: payment.provider, userId: payment.user_id });
    const details = { action: input.action, note: input.note ?? null, was: payment.status };
    await audit(tx, { ...input.source, at: now, action: 'payment.resolve', target: `payment:${payment.id}`, details });
    return (await findPayment(tx, payment.id)) as PaymentRow;
  });
}
