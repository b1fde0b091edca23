import { type AuditRow, countAudit, listAudit } from '@vpn-api/db';
import { z } from 'zod';
import { instant, page, token } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { auditSchema } from './schemas.ts';

export const listAuditProcedure = adminProcedure
  .meta({
    openapi: { method: 'GET', path: '/audit', tags: ['audit'], summary: 'Who did what, and from where', protect: true },
  })
  .input(
    z.strictObject({
      ...page,
      actor: token(64).optional().describe('`user:5`, `key:2`, `public` or `cli`'),
      action: token(64).optional().describe('`payment.refund`'),
      target: token(64).optional().describe('`payment:17`'),
      since: instant.optional(),
    }),
  )
  .output(z.array(auditSchema))
  .query(async ({ ctx, input }) => {
    const { store } = ctx.services;
    const { actor, action, target, since } = input;
    const filter = { actor, action, target, since };
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countAudit(store, filter)));
    const rows = await listAudit(store, filter, { skip: input.skip, limit: input.limit, afterId: input.after_id });
    return rows.map(auditView);
  });

function auditView({ details, ...row }: AuditRow) {
  return { ...row, details: JSON.parse(details) as Record<string, unknown> };
}
