import type { UserRow } from '@vpn-api/db';
import { DomainError } from '../domain/errors.ts';

/** What an API key may do; `auth.*` and admin procedures have none. */
export const scopes = [
  'users:read',
  'users:write',
  'tariffs:write',
  'subscriptions:read',
  'subscriptions:write',
  'peers:read',
  'peers:write',
  'payments:read',
  'payments:write',
  'events:read',
] as const;
export type Scope = (typeof scopes)[number];

export type PublicActor = { readonly kind: 'public' };
/** A signed-in person. `admin` is the same person with the role; the row is the one read for this request. */
export type PersonActor = {
  readonly kind: 'user' | 'admin';
  readonly user: UserRow;
  /** Family of the session that issued the access token. */
  readonly sessionId: number;
};
/** An operator's bot or backend with an API key. */
export type ServiceActor = {
  readonly kind: 'service';
  readonly keyId: number;
  readonly name: string;
  readonly scopes: ReadonlySet<string>;
};
export type AccountActor = PersonActor | ServiceActor;
export type Actor = PublicActor | AccountActor;

/** How an actor is named in audit rows, idempotency keys and rate limits. */
export function actorName(actor: Actor): string {
  if (actor.kind === 'service') return `key:${actor.keyId}`;
  return actor.kind === 'public' ? 'public' : `user:${actor.user.id}`;
}

/**
 * Whose rows a call is about. A user names nobody or himself; a service or an admin may name anybody.
 * @throws DomainError `not_allowed` when a user names somebody else
 */
export function ownerFor(actor: AccountActor, userId: number | null | undefined): number | undefined {
  if (actor.kind === 'service') return userId ?? undefined;
  if (actor.kind === 'admin') return userId ?? undefined;
  if (userId != null && userId !== actor.user.id) throw new DomainError('not_allowed');
  return actor.user.id;
}

/** Whether a row of `ownerId` exists for this actor at all; another's row is answered as if it did not. */
export function maySee(actor: AccountActor, ownerId: number): boolean {
  return actor.kind !== 'user' || actor.user.id === ownerId;
}
