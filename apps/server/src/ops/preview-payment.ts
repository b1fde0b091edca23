import type { SubscriptionPeriodRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';
import type { Instant } from '../domain/instant.ts';
import {
  type Apply,
  afterPlacement,
  effectiveApply,
  type FoldedPeriod,
  hasLifetime,
  type NewPeriod,
  placeGrant,
} from '../domain/subscription.ts';
import type { Services } from '../services.ts';
import { getUserToActFor } from './act-for-user.ts';
import { type Quote, type QuoteRequest, quotePayment } from './payment-quote.ts';
import { type Chain, loadChain } from './subscription-chain.ts';
import { termsOf } from './tariff-terms.ts';

export interface PreviewRequest extends QuoteRequest {
  readonly userId: number;
  readonly apply?: Apply | null | undefined;
}

export interface Preview {
  readonly quote: Quote;
  /** What will really happen: the same tariff always extends. */
  readonly apply: Apply;
  readonly period: NewPeriod;
  /** The whole chain as it would be, parts that are over left out; the new one has the id 0, and so have new rests. */
  readonly chain: readonly FoldedPeriod<SubscriptionPeriodRow | (NewPeriod & { readonly id: number })>[];
}

/**
 * What a payment would cost and make of the subscription if its money came this very moment: the function that settles,
 * on the rows as they are. Writes nothing.
 * @throws DomainError as `createPayment` for what cannot be bought
 */
export async function previewPayment(
  deps: Pick<Services, 'store' | 'clock' | 'providers'>,
  request: PreviewRequest,
): Promise<Preview> {
  const user = await getUserToActFor(deps.store, request.caller, request.userId);
  const quote = await quotePayment(deps, request);
  const chain = await loadChain(deps.store, user.id);
  if (hasLifetime(chain)) throw new DomainError('already_lifetime');
  return previewOn(chain, { quote, apply: request.apply ?? 'now', now: deps.clock.now() });
}

function previewOn(
  chain: Chain,
  { quote, apply, now }: { readonly quote: Quote; readonly apply: Apply; readonly now: Instant },
): Preview {
  const terms = termsOf(quote.tariff);
  const { amountMinor: price_minor, currency } = quote;
  const origin = { source: 'payment', payment_id: null, price_minor, currency, reason: null } as const;
  const placement = placeGrant(chain, { terms, origin, now, apply });
  const left = afterPlacement(chain, placement).filter(({ ends_at }) => ends_at === null || ends_at > now);
  return { quote, apply: effectiveApply(chain, { apply, terms, now }), period: placement.period, chain: left };
}
