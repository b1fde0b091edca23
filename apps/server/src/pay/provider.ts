import type { Instant } from '../domain/instant.ts';
import type { SettlementEvent } from '../domain/settlement.ts';

/** A webhook delivery as it came off the wire. Header names are lower case. */
export interface Delivery {
  readonly raw: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** Address of the sender after trusted proxies; undefined when the call came over tRPC. */
  readonly remoteAddress: string | undefined;
}

/** Identity and meaning of one authentic delivery. */
export interface VerifiedEvent {
  readonly kind: 'event';
  /** Unique per provider and stable over the sender's retries. */
  readonly dedupeKey: string;
  /** The sender's own name for what happened, for the inbox. */
  readonly type: string;
  /** What it asks for; undefined when the type does not concern us. */
  readonly event: SettlementEvent | undefined;
  /** Why the body cannot be understood although the sender is authentic; it is then held for a person. */
  readonly malformed?: string;
}

/** A delivery that proves nothing by itself. It is stored, and a job reads the object it names back from the provider. */
export interface Hint {
  readonly kind: 'hint';
  /** Unique per provider and stable over repeats of the same notice. */
  readonly dedupeKey: string;
  readonly type: string;
  /** Whatever the body says about the object, none of it trusted. */
  readonly reference?: string | undefined;
  /** May be another of the provider's ids for the money, which no payment of ours has: `findReference` then names ours. */
  readonly chargeId?: string | undefined;
  readonly refundId?: string | undefined;
}

/** The provider asks whether the customer may pay now, and wants the answer within seconds (Telegram's pre-checkout). */
export interface CheckoutQuestion {
  readonly kind: 'question';
  readonly questionId: string;
  readonly reference: string;
  readonly amountMinor: number;
  readonly currency: string;
  readonly payerId: string | undefined;
}

/** Authentic, but about no payment: a chat message that came with the payments. Answered, and not kept. */
export interface UnrelatedDelivery {
  readonly kind: 'unrelated';
}

export interface RejectedDelivery {
  readonly kind: 'rejected';
  /** For the log; the sender only learns that the signature is not accepted. */
  readonly reason: string;
}

/** What `verify` makes of a delivery. */
export type Verdict = VerifiedEvent | Hint | CheckoutQuestion | UnrelatedDelivery | RejectedDelivery;

/** How the customer pays, for the bot or page that shows it. */
export type Checkout =
  | { readonly type: 'redirect'; readonly url: string }
  | {
      readonly type: 'telegram_invoice';
      readonly link: string;
      readonly payload: string;
      readonly title: string;
      readonly amount: number;
      readonly currency: string;
    }
  | { readonly type: 'manual'; readonly instructions: string };

export interface CheckoutRequest {
  readonly reference: string;
  readonly amount: string;
  readonly amountMinor: number;
  readonly currency: string;
  readonly title: string;
  readonly description: string | null;
  readonly returnUrl: string | null;
}

export interface CreatedCheckout {
  readonly checkout: Checkout;
  /** The charge id as far as it exists before the customer paid; null when the charge gets its id by being paid. */
  readonly chargeId: string | null;
}

/** A payment as far as a provider needs to know it to be asked about it. */
export interface PaymentQuery {
  readonly reference: string;
  readonly chargeId: string | null;
  readonly createdAt: Instant;
  readonly amountMinor: number;
  readonly currency: string;
}

/** One thing the provider says about a payment when asked: as good as a signed delivery, and settled the same way. */
export interface FetchedEvent extends VerifiedEvent {
  /** The provider's answer as it came, for the inbox. */
  readonly raw: string;
}

export interface FetchedPayment {
  readonly events: readonly FetchedEvent[];
  /** True when the provider has said how the payment itself ended. It is still asked about for a while, once a day. */
  readonly isFinal: boolean;
}

export interface RefundRequest {
  readonly reference: string;
  readonly chargeId: string;
  readonly payerId: string | null;
  readonly amountMinor: number;
  readonly currency: string;
  /** True when nothing of the payment was refunded before and this is all of it. */
  readonly isWhole: boolean;
  /** The same for every repeat of this refund: the provider makes it once. */
  readonly idempotencyKey: string;
}

export interface RefundAnswer {
  readonly status: 'succeeded' | 'pending' | 'failed';
  readonly refundId: string;
}

export type ProviderErrorKind =
  /** The provider said no, and nothing happened. Repeating will not help. */
  | 'refused'
  /** Nothing happened: it could not be reached, or asked us to wait. */
  | 'unavailable'
  /** Nobody knows whether it happened: a timeout, a broken connection, a 5xx. Repeat with the same key, or read back. */
  | 'unknown';

/** The only error that calls to a provider throw. `message` is for logs: no secrets, nothing of the answer. */
export class ProviderError extends Error {
  override readonly name = 'ProviderError';
  readonly kind: ProviderErrorKind;

  constructor(kind: ProviderErrorKind, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.kind = kind;
  }
}

/** A way to be paid. One file each; optional abilities are optional methods. */
export interface PaymentProvider {
  readonly name: string;
  readonly checkoutType: Checkout['type'] | 'external';
  /** Currencies it can take; undefined means every currency a tariff is priced in. */
  readonly currencies?: readonly string[];
  /** Describes how to pay, from the quote alone. Absent when the payment starts in the sender's own shop. */
  describeCheckout?(request: CheckoutRequest): Checkout;
  /** Pure: decides from the bytes alone whether a delivery is authentic and what it says. Absent: no webhook. */
  verify?(delivery: Delivery, now: Instant): Verdict;
  /**
   * Who vouches for a delivery: a signature over it, a secret that came with it and says nothing about the body, or only
   * the address it came from (never over tRPC then).
   */
  readonly authenticatesBy?: 'signature' | 'secret' | 'address';
  /** Opens the payment at the provider. A repeat with the same reference answers the same checkout. */
  createCheckout?(request: CheckoutRequest, signal: AbortSignal): Promise<CreatedCheckout>;
  /** Reads back what became of a payment. Total: a payment that the provider does not know has no events. */
  fetchPayment?(query: PaymentQuery, signal: AbortSignal): Promise<FetchedPayment>;
  /** Names the payment of a hint whose body could not: asks the provider. Undefined when it is none of ours. */
  findReference?(hint: Pick<Hint, 'chargeId' | 'refundId'>, signal: AbortSignal): Promise<string | undefined>;
  /** Pays back. Safe to repeat with the same key. */
  refund?(request: RefundRequest, signal: AbortSignal): Promise<RefundAnswer>;
  /** Answers a question; `refusal` is what the customer reads, undefined means go ahead. */
  answerQuestion?(questionId: string, refusal: string | undefined, signal: AbortSignal): Promise<void>;
}
