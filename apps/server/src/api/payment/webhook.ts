import { z } from 'zod';
import { receiveWebhook } from '../../ops/receive-webhook.ts';
import { token } from '../fields.ts';
import { publicProcedure } from '../trpc.ts';
import { eventOutcome } from './schemas.ts';

/** Cap of a delivery; Standard Webhooks asks senders to stay under 20 KB. */
const MAX_BODY = 65_536;

export const paymentWebhook = publicProcedure
  .meta({
    openapi: {
      method: 'POST',
      path: '/payments/webhook/{provider}',
      tags: ['payment'],
      summary: "Receive a payment provider's signed event",
      protect: false,
    },
    rate: 'none',
    rest: { raw: true, aliases: [{ method: 'POST', path: '/payments/webhook' }] },
  })
  .input(
    z.strictObject({
      provider: token(64).default('standard'),
      headers: z.record(z.string().max(100), z.string().max(8192)),
      raw_body: z.string().max(MAX_BODY),
    }),
  )
  .output(z.object({ received: z.literal(true), result: eventOutcome }))
  .mutation(async ({ ctx, input }) => {
    const remoteAddress = ctx.request.transport === 'rest' ? ctx.request.ip : undefined;
    const delivery = { raw: input.raw_body, headers: lowerCaseKeys(input.headers), remoteAddress };
    const result = await receiveWebhook(ctx.services, { provider: input.provider, delivery });
    return { received: true as const, result };
  });

function lowerCaseKeys(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
