import type { PaymentStatus } from './payment.ts';
import type { PeriodSource } from './subscription.ts';

/** What `payment.*` events tell. Money is a decimal string, as everywhere on the wire. */
export interface PaymentEventData {
  readonly payment_id: number;
  readonly reference: string;
  readonly user_id: number;
  readonly tariff_id: number;
  readonly amount: string;
  readonly currency: string;
  readonly status: PaymentStatus;
  readonly provider: string;
  readonly provider_payment_id: string | null;
  /** All that went back so far; absent while nothing did. */
  readonly refunded_amount?: string;
  /** Why a person must look at it; absent when nobody must. */
  readonly review_reason?: string;
}

/** What `subscription.*` events tell. `ends_at` is the end of that period, null for a lifetime. */
export interface SubscriptionEventData {
  readonly user_id: number;
  readonly tariff_id: number | null;
  readonly period_id: number;
  readonly starts_at: string;
  readonly ends_at: string | null;
  readonly source: PeriodSource;
}

/** What `peer.*` events tell. */
export interface PeerEventData {
  readonly peer_id: number;
  readonly user_id: number;
  readonly server_id: number;
  /** Why the peer is suspended, as in `peer.status`. */
  readonly reason?: string;
  /** After a change that the client must fetch. */
  readonly config_version?: number;
  /** After a move: the server it was on. */
  readonly from_server_id?: number;
}

export interface UserEventData {
  readonly user_id: number;
  readonly email: string | null;
  readonly telegram_id: number | null;
}

/** What the outside is told, by type: what a receiver finds under `data`. */
export interface EventData {
  readonly 'payment.completed': PaymentEventData;
  readonly 'payment.refunded': PaymentEventData;
  readonly 'payment.needs_review': PaymentEventData;
  readonly 'subscription.started': SubscriptionEventData;
  readonly 'subscription.extended': SubscriptionEventData;
  readonly 'subscription.expiring': SubscriptionEventData;
  readonly 'subscription.expired': SubscriptionEventData;
  readonly 'peer.active': PeerEventData;
  readonly 'peer.suspended': PeerEventData;
  readonly 'peer.config_changed': PeerEventData;
  readonly 'peer.moved': PeerEventData;
  readonly 'user.created': UserEventData;
}

export type EventType = keyof EventData;

/** All of them, in the order of the documentation. */
export const eventTypes = [
  'payment.completed',
  'payment.refunded',
  'payment.needs_review',
  'subscription.started',
  'subscription.extended',
  'subscription.expiring',
  'subscription.expired',
  'peer.active',
  'peer.suspended',
  'peer.config_changed',
  'peer.moved',
  'user.created',
] as const satisfies readonly EventType[];
