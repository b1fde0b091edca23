import { invalidField } from '../domain/errors.ts';
import { type AccountActor, ownerFor } from './actor.ts';

/**
 * The one user that a call is about: whom it names, or the person who calls.
 * @throws DomainError `not_allowed` when a user names somebody else, `validation_failed` when a service names nobody
 */
export function customerId(caller: AccountActor, userId: number | null | undefined): number {
  const owner = ownerFor(caller, userId);
  if (owner !== undefined) return owner;
  if (caller.kind === 'service') throw invalidField('user_id', 'is required with an API key');
  return caller.user.id;
}
