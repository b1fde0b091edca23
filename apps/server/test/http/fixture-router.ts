import { z } from 'zod';
import { id, page, token } from '../../src/api/fields.ts';
import { systemRouter } from '../../src/api/system/router.ts';
import { publicProcedure, router, userProcedure } from '../../src/api/trpc.ts';
import { DomainError } from '../../src/domain/errors.ts';

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

function openapi(method: Method, path: `/${string}`) {
  return { method, path, tags: ['fixture'], summary: `${method} ${path}`, protect: false };
}

const anything = z.unknown();

const list = publicProcedure
  .meta({ openapi: openapi('GET', '/things') })
  .input(
    z.strictObject({
      ...page,
      flag: z.boolean().optional(),
      ratio: z.number().optional(),
      ids: z.array(id).optional(),
      price: z.string().optional(),
      sort: z.enum(['up', 'down']).nullish(),
    }),
  )
  .output(anything)
  .query(({ ctx, input }) => {
    if (input.with_total) ctx.responseHeaders.set('x-total-count', '42');
    return input;
  });

const get = publicProcedure
  .meta({ openapi: openapi('GET', '/things/{thing_id}') })
  .input(z.strictObject({ thing_id: id }))
  .output(anything)
  .query(({ input }) => input);

const own = publicProcedure
  .meta({ openapi: openapi('POST', '/things/self') })
  .input(z.strictObject({ name: z.string().optional() }))
  .output(anything)
  .mutation(({ input }) => input);

const create = publicProcedure
  .meta({
    openapi: openapi('POST', '/things/create'),
    idempotent: true,
    rest: { aliases: [{ method: 'POST', path: '/things' }], legacyKeys: ['old'], query: ['count', 'flag'] },
  })
  .input(
    z.strictObject({
      count: z.int().nullish(),
      flag: z.boolean().optional(),
      name: z.string().optional(),
      nested: z.unknown().optional(),
    }),
  )
  .output(anything)
  .mutation(({ input }) => input);

const update = publicProcedure
  .meta({ openapi: openapi('PUT', '/things/{thing_id}') })
  .input(z.strictObject({ thing_id: id, name: z.string().nullable().optional() }))
  .output(anything)
  .mutation(({ input }) => input);

const remove = publicProcedure
  .meta({ openapi: openapi('DELETE', '/things/{thing_id}') })
  .input(z.strictObject({ thing_id: id, force: z.boolean().optional() }))
  .output(anything)
  .mutation(({ input }) => input);

const nothing = publicProcedure
  .meta({ openapi: openapi('GET', '/nothing') })
  .output(z.null())
  .query(() => null);

const fail = publicProcedure
  .meta({ openapi: openapi('GET', '/fail') })
  .output(anything)
  .query(() => {
    throw new Error('secret: postgres://vpn:hunter2@db/vpn');
  });

const busy = publicProcedure
  .meta({ openapi: openapi('GET', '/busy') })
  .output(anything)
  .query(() => {
    throw new DomainError('overloaded', { retryAfterSeconds: 7, internal: 'queue of 32 is full' });
  });

const whoami = userProcedure
  .meta({ openapi: { ...openapi('GET', '/whoami'), protect: true } })
  .output(anything)
  .query(({ ctx }) => ctx.caller.user.id);

const request = publicProcedure
  .meta({ openapi: openapi('GET', '/request') })
  .output(anything)
  .query(({ ctx }) => ctx.request);

const login = publicProcedure
  .meta({ openapi: openapi('POST', '/login'), rate: 'auth', rest: { form: 'oauth2-password' } })
  .input(z.strictObject({ email: z.string(), password: z.string() }))
  .output(anything)
  .mutation(({ input }) => input);

const config = publicProcedure
  .meta({ openapi: openapi('GET', '/vpn_peers/{peer_id}/config'), rest: { produces: 'wg-quick' } })
  .input(z.strictObject({ peer_id: id }))
  .output(z.object({ wg_quick: z.string() }))
  .query(() => ({ wg_quick: '[Interface]\nPrivateKey = x\n' }));

const qr = publicProcedure
  .meta({ openapi: openapi('GET', '/vpn_peers/{peer_id}/qr'), rest: { produces: 'qr' } })
  .input(z.strictObject({ peer_id: id, format: z.enum(['svg', 'png']).default('svg') }))
  .output(z.object({ content_type: z.string(), base64: z.string() }))
  .query(({ input }) => ({
    content_type: input.format === 'svg' ? 'image/svg+xml' : 'image/png',
    base64: Buffer.from(`image of ${input.peer_id}`).toString('base64'),
  }));

const webhook = publicProcedure
  .meta({
    openapi: openapi('POST', '/payments/webhook/{provider}'),
    rate: 'none',
    rest: { raw: true, aliases: [{ method: 'POST', path: '/payments/webhook' }] },
  })
  .input(
    z.strictObject({
      provider: token(64).default('standard'),
      headers: z.record(z.string(), z.string()),
      raw_body: z.string(),
    }),
  )
  .output(anything)
  .mutation(({ ctx, input }) => ({ ...input, remoteAddress: ctx.request.ip }));

const hidden = publicProcedure.output(z.literal('tRPC only')).query(() => 'tRPC only' as const);

/** Small procedures that answer what they were given, for tests of the transports alone. */
export const fixtureRouter = router({
  system: systemRouter,
  thing: router({ list, get, self: own, create, update, remove }),
  odd: router({ nothing, fail, busy, whoami, request, login, hidden }),
  peer: router({ config, qr }),
  payment: router({ webhook }),
});
export type FixtureRouter = typeof fixtureRouter;
