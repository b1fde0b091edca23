import type { AuditSource } from '../ops/audit.ts';
import { type Actor, actorName } from './actor.ts';
import type { Context } from './context.ts';

/** Who does it and from where, for the audit row that an operation writes in its own transaction. */
export function auditOf(ctx: Context & { readonly caller: Actor }): AuditSource {
  return { actor: actorName(ctx.caller), ip: ctx.request.ip, request_id: ctx.request.id };
}
