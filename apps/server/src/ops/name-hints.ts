import {
  findPaymentByReference,
  listNamelessHints,
  lockEvent,
  type PaymentEventRow,
  type Tx,
  updateEventOutcome,
} from '@vpn-api/db';
import type { PaymentProvider } from '../pay/provider.ts';
import { askProvider, type Round } from './ask-provider.ts';
import type { PollDeps } from './poll-payments.ts';
import { followHint } from './receive-hint.ts';
import { sideBySide } from './side-by-side.ts';

const BATCH = 50;
const SIDE_BY_SIDE = 4;

/**
 * Asks providers which payment a hint is about, where the hint could not say. One that cannot be answered now is asked
 * again in the next round; one that the provider refuses to explain waits for a person.
 */
export async function nameHints(deps: PollDeps, round: Round): Promise<void> {
  const able = [...deps.providers.values()].filter(({ findReference }) => findReference !== undefined);
  const hints = await listNamelessHints(
    deps.store,
    able.map(({ name }) => name),
    BATCH,
  );
  await sideBySide(hints, SIDE_BY_SIDE, (hint) => nameHint(deps, round, hint));
}

async function nameHint(deps: PollDeps, round: Round, hint: PaymentEventRow): Promise<void> {
  const provider = deps.providers.get(hint.provider) as Required<PaymentProvider>;
  const named = { chargeId: hint.provider_payment_id ?? undefined, refundId: hint.provider_refund_id ?? undefined };
  const asked = await askProvider(deps, {
    provider: provider.name,
    call: 'poll',
    round,
    ask: (signal) => provider.findReference(named, signal),
  });
  if ('failure' in asked && asked.failure.kind !== 'refused') return;
  if ('failure' in asked) deps.log.warn({ provider: provider.name, err: asked.failure }, 'a hint was not explained');
  const answer: Answer = 'failure' in asked ? { kind: 'refused' } : { kind: 'named', reference: asked.answer };
  await deps.store.transaction((tx) => keepAnswer(deps, tx, hint.id, answer));
}

type Answer =
  | { readonly kind: 'refused' }
  /** Undefined: the provider says that it is none of ours. */
  | { readonly kind: 'named'; readonly reference: string | undefined };

async function keepAnswer(deps: PollDeps, tx: Tx, hintId: number, answer: Answer): Promise<void> {
  const hint = await lockEvent(tx, hintId);
  if (hint?.outcome !== 'parked' || hint.payment_id !== null) return;
  const reference = answer.kind === 'named' ? answer.reference : undefined;
  const payment = reference === undefined ? undefined : await findPaymentByReference(tx, reference);
  if (payment !== undefined && payment.provider === hint.provider) {
    await followHint(deps, tx, { hint, paymentId: payment.id });
    return;
  }
  const isForeign = answer.kind === 'named' && reference === undefined;
  await updateEventOutcome(tx, hint.id, {
    outcome: isForeign ? 'ignored' : 'parked',
    reason: isForeign ? 'not_ours' : 'payment_unknown',
    payment_id: null,
    processed_at: deps.clock.now(),
  });
}
