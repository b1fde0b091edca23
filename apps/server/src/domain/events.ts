/** What the outside is told. The payload of each is typed where it is emitted and in the SDK. */
export type EventType =
  | 'payment.completed'
  | 'payment.refunded'
  | 'payment.needs_review'
  | 'subscription.started'
  | 'subscription.extended'
  | 'subscription.expiring'
  | 'subscription.expired'
  | 'peer.active'
  | 'peer.suspended'
  | 'peer.config_changed'
  | 'peer.moved'
  | 'user.created';
