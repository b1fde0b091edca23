import { countApiKeys, listApiKeys } from '@vpn-api/db';
import { z } from 'zod';
import { page } from '../fields.ts';
import { adminProcedure } from '../trpc.ts';
import { apiKeySchema } from './schemas.ts';
import { apiKeyView } from './view.ts';

export const listApiKeysProcedure = adminProcedure
  .meta({ openapi: { method: 'GET', path: '/api_keys', tags: ['api key'], summary: 'List API keys', protect: true } })
  .input(z.strictObject({ ...page }))
  .output(z.array(apiKeySchema))
  .query(async ({ ctx, input }) => {
    const { store } = ctx.services;
    if (input.with_total) ctx.responseHeaders.set('x-total-count', String(await countApiKeys(store)));
    const rows = await listApiKeys(store, { skip: input.skip, limit: input.limit, afterId: input.after_id });
    return rows.map(apiKeyView);
  });
