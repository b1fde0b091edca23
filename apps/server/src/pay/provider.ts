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

export interface RejectedDelivery {
  readonly kind: 'rejected';
  /** For the log; the sender only learns that the signature is not accepted. */
  readonly reason: string;
}

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
  readonly currency: string;
  readonly title: string;
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
  verify?(delivery: Delivery, now: Instant): VerifiedEvent | RejectedDelivery;
}
