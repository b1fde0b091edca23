/**
 * Mutations that the server runs once per `Idempotency-Key`: those with `idempotent` in their meta. Types are all that
 * the SDK takes from the server, so the list is written out here; a test holds it against the router.
 */
export const IDEMPOTENT_PROCEDURES: readonly string[] = [
  'apiKey.create',
  'auth.assignTariff',
  'auth.subscribe',
  'payment.create',
  'payment.refund',
  'peer.create',
  'peer.createSelf',
  'peer.rotate',
  'server.create',
  'subscription.extend',
  'subscription.grant',
  'subscription.startTrial',
  'tariff.create',
  'user.ensure',
  'webhookEndpoint.create',
  'webhookEndpoint.rotateSecret',
];

/**
 * Repeatable by nature: a repeat of a refresh token whose successor was never used replaces that successor, since an
 * answer may have been lost.
 */
export const REPEATABLE_PROCEDURES: readonly string[] = ['auth.refresh'];

/** They make a session or spend a refresh token; an old access token has no business there. */
export const ANONYMOUS_PROCEDURES: readonly string[] = ['auth.login', 'auth.refresh', 'auth.register'];
