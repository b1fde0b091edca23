import type { PaymentEventRow, Store } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Delivery, Hint, PaymentProvider, Verdict } from '../pay/provider.ts';
import type { Services } from '../services.ts';
import { answerQuestion } from './answer-question.ts';
import type { SettleDeps } from './apply-settlement.ts';
import { FewAtOnce } from './few-at-once.ts';
import { receiveHint } from './receive-hint.ts';
import { recordEvent } from './record-event.ts';
import { settling } from './settle-payment.ts';

type Deps = SettleDeps & Pick<Services, 'store' | 'providers' | 'log' | 'metrics' | 'rejections' | 'paymentPolls'>;
export type WebhookResult = PaymentEventRow['outcome'];

interface ReceiveWebhook {
  readonly provider: string;
  readonly delivery: Delivery;
}

/**
 * All deliveries about one payment need one lock. Those that wait for it in the database keep a connection each, so of a
 * storm of them most wait here: two at a time are no slower, and leave connections to everybody else.
 */
const AT_ONCE = 2;
const lines = new WeakMap<Store, FewAtOnce>();

function lineOf(store: Store): FewAtOnce {
  const line = lines.get(store) ?? new FewAtOnce(AT_ONCE);
  lines.set(store, line);
  return line;
}

/**
 * Takes one delivery: authentic or refused by its bytes alone, then stored with its effect in one transaction. Returning
 * means it is durable; whatever is thrown after the check means that nothing happened and the sender should repeat.
 * @throws DomainError `provider_not_found`, `invalid_signature`, `not_allowed` over tRPC for a provider that is known by
 * its address, `provider_unavailable` when a question could not be answered
 */
export async function receiveWebhook(deps: Deps, { provider: name, delivery }: ReceiveWebhook): Promise<WebhookResult> {
  const provider = deps.providers.get(name);
  if (provider?.verify === undefined) throw new DomainError('provider_not_found');
  if (provider.authenticatesBy === 'address' && delivery.remoteAddress === undefined) {
    throw new DomainError('not_allowed');
  }
  const verdict = provider.verify(delivery, deps.clock.now());
  const result = await act(deps, provider, { verdict, raw: delivery.raw });
  deps.metrics.countWebhook(name, verdict.kind === 'event' ? result : verdict.kind);
  return result;
}

interface Judged {
  readonly verdict: Verdict;
  readonly raw: string;
}

async function act(deps: Deps, provider: PaymentProvider, { verdict, raw }: Judged): Promise<WebhookResult> {
  const { name } = provider;
  switch (verdict.kind) {
    case 'event':
      return inLine(deps, verdict.event ?? {}, async () => {
        return (await settling(deps.store, (tx) => recordEvent(deps, tx, { name, verified: verdict, raw }))).outcome;
      });
    case 'hint':
      return inLine(deps, verdict, () => receiveHint(deps, { name, hint: verdict, raw }));
    case 'question':
      return answerQuestion(deps, provider, verdict);
    case 'unrelated':
      return 'ignored';
    case 'rejected':
      deps.metrics.countWebhook(name, 'rejected');
      deps.rejections.add(name, verdict.reason);
      throw new DomainError('invalid_signature', { internal: verdict.reason });
  }
}

type Named = Pick<Hint, 'reference' | 'chargeId'>;

/** What names no payment needs no lock of one. */
function inLine<T>({ store }: Deps, { reference, chargeId }: Named, work: () => Promise<T>): Promise<T> {
  const key = reference ?? chargeId;
  return key === undefined ? work() : lineOf(store).run(key, work);
}
