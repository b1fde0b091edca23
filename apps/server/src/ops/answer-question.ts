import { findPaymentByReference, findTariff, findUserById, type Queryable } from '@vpn-api/db';
import { refuseCheckout } from '../domain/checkout.ts';
import { DomainError } from '../domain/errors.ts';
import { hasLifetime } from '../domain/subscription.ts';
import { type CheckoutQuestion, type PaymentProvider, ProviderError } from '../pay/provider.ts';
import type { Services } from '../services.ts';
import { loadChain } from './subscription-chain.ts';

type Deps = Pick<Services, 'store' | 'log' | 'metrics'>;

/** Telegram gives up on a pre-checkout after ten seconds; two attempts and the way here must fit in. */
const ATTEMPT_MS = 4_000;
const ATTEMPTS = 2;

/**
 * Tells a provider whether the customer may pay now. It is no money and is not stored.
 *
 * When the answer cannot be brought to the provider, the delivery fails, so that the provider asks again while the
 * customer waits. When the provider refuses the answer, the question is over: a repeat would be refused for ever.
 * @throws DomainError `provider_unavailable`
 */
export async function answerQuestion(
  deps: Deps,
  provider: PaymentProvider,
  question: CheckoutQuestion,
): Promise<'ignored'> {
  const refusal = await judgeQuestion(deps.store, provider.name, question);
  const result = await bringAnswer(provider, question.questionId, refusal);
  const failure = result instanceof ProviderError ? result.kind : undefined;
  const said = refusal === undefined ? 'allowed' : 'refused';
  deps.metrics.countProviderCall({ provider: provider.name, call: 'question', result: failure ?? said });
  if (failure !== undefined) {
    deps.log.warn({ provider: provider.name, err: result }, 'a checkout question could not be answered');
  }
  if (failure !== undefined && failure !== 'refused') {
    throw new DomainError('provider_unavailable', { cause: result, retryAfterSeconds: 1 });
  }
  return 'ignored';
}

async function judgeQuestion(
  q: Queryable,
  provider: string,
  { reference, amountMinor, currency }: CheckoutQuestion,
): Promise<string | undefined> {
  const found = await findPaymentByReference(q, reference);
  const payment = found?.provider === provider ? found : undefined;
  const facts = {
    payment,
    user: payment && (await findUserById(q, payment.user_id)),
    tariff: payment && (await findTariff(q, payment.tariff_id)),
    hasLifetime: payment !== undefined && hasLifetime(await loadChain(q, payment.user_id)),
  };
  return refuseCheckout(facts, { amount_minor: amountMinor, currency });
}

/** Answering twice is harmless, so a broken connection is tried once more at once. */
async function bringAnswer(
  provider: PaymentProvider,
  questionId: string,
  refusal: string | undefined,
): Promise<ProviderError | undefined> {
  let failure: ProviderError | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    try {
      await provider.answerQuestion?.(questionId, refusal, AbortSignal.timeout(ATTEMPT_MS));
      return undefined;
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      failure = error;
      if (error.kind === 'refused') return error;
    }
  }
  return failure;
}
