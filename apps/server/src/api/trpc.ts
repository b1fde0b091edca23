import { initTRPC, type TRPC_ERROR_CODE_KEY, type TRPC_ERROR_CODE_NUMBER } from '@trpc/server';
import { TRPC_ERROR_CODES_BY_KEY } from '@trpc/server/rpc';
import type { OpenApiMeta } from 'trpc-openapi';
import { DomainError } from '../domain/errors.ts';
import type { AccountActor, Actor, PersonActor, Scope, ServiceActor } from './actor.ts';
import { actorName } from './actor.ts';
import type { Context } from './context.ts';
import { trpcCode } from './error-table.ts';
import { type Problem, problemOf, requestIdOf, toDomainError, toTrpcError } from './problem.ts';

/** How the REST mirror differs from the one path and JSON that the OpenAPI meta can say. */
export type RestMeta = {
  /** Further paths of the same procedure. */
  aliases?: { method: 'GET' | 'POST' | 'PUT' | 'DELETE'; path: `/${string}` }[];
  /** Input keys that a POST also takes from the query string; the body wins. */
  query?: string[];
  /** Body keys of older clients that are accepted and ignored. */
  legacyKeys?: string[];
  /** Also takes the OAuth2 password form. */
  form?: 'oauth2-password';
  /** Answers that are not JSON: which output key holds the text or the base64 bytes, chosen by `Accept` or by itself. */
  produces?: 'wg-quick' | 'qr';
  /** The body is signed: raw bytes go to the procedure untouched, by a route of its own. */
  raw?: true;
};

export type Meta = {
  openapi?: OpenApiMeta['openapi'];
  /** What an API key needs; without it no API key may call. */
  scope?: Scope;
  /** Accepts `Idempotency-Key`. */
  idempotent?: true;
  /** Which of the `RATE_LIMITS` buckets counts the call; `none` for webhooks and probes. */
  rate?: 'auth' | 'default' | 'none';
  rest?: RestMeta;
  /** Who may call, for the document and the access matrix in the tests; set by the builders below. */
  access?: 'public' | 'person' | 'account' | 'admin';
};

interface FormatterInput {
  readonly shape: { readonly data: { readonly path?: string } };
  readonly error: unknown;
  readonly ctx?: unknown;
}

/** What a tRPC client gets of an error. Named, or the SDK's types would spell it out once for every procedure. */
export type ErrorShape = {
  message: string;
  code: TRPC_ERROR_CODE_NUMBER;
  data: { code: TRPC_ERROR_CODE_KEY; httpStatus: number; path: string | undefined; problem: Problem };
};

/** The one shape of tRPC errors, also of those that never reach a procedure. Message and stack of the cause stay here. */
const errorFormatter = ({ shape, error, ctx }: FormatterInput): ErrorShape => {
  const refusal = toDomainError(error);
  const problem = problemOf(refusal, (ctx as Context | undefined)?.request.id ?? requestIdOf(error));
  const code = trpcCode(refusal.code);
  return {
    message: problem.detail,
    code: TRPC_ERROR_CODES_BY_KEY[code],
    data: { code, httpStatus: problem.status, path: shape.data.path, problem },
  };
};

const procedures = initTRPC.context<Context>().meta<Meta>().create({ errorFormatter });
/** Routers come from an instance without a context type, so that the SDK's bundled types carry no server code. */
const routers = initTRPC.meta<Meta>().create({ errorFormatter });

export const router = routers.router;

/** Who a call is let in as; throws for whom it is not. */
type Admit<Caller> = (ctx: Context, scope: Scope | undefined) => Caller | Promise<Caller>;

/**
 * Rate limit, admission, error mapping and measurement around every single call, batched or not. One middleware: tRPC
 * copies a call's options for each.
 */
function procedureFor<Caller>(access: NonNullable<Meta['access']>, admit: Admit<Caller>) {
  return procedures.procedure.meta({ access }).use(async ({ ctx, path, meta, getRawInput, next }) => {
    await limitRate(ctx, path, meta?.rate ?? 'default');
    const stop = ctx.services.metrics.startProcedure(path);
    try {
      const caller = await admit(ctx, meta?.scope);
      // No input is none of the keys, as it is over REST: `/trpc/tariff.list` lists.
      const orNone = () => getRawInput().then((input) => (input === undefined ? {} : input));
      // The types of `next` take either of the two; it honours both.
      const options: { ctx: { caller: Caller } } = Object.assign({ ctx: { caller } }, { getRawInput: orNone });
      const result = await next(options);
      if (!result.ok) throw result.error;
      stop('ok');
      return result;
    } catch (error) {
      const refusal = toTrpcError(error);
      stop(refusal.message);
      noteFailure(ctx, path, refusal.cause as DomainError);
      throw refusal;
    }
  });
}

async function limitRate(ctx: Context, path: string, bucket: 'auth' | 'default' | 'none'): Promise<void> {
  if (bucket === 'none') return;
  const { rateLimiter } = ctx.services;
  const caller = bucket === 'auth' ? 'public' : await callerName(ctx);
  const key = caller === 'public' ? `ip:${ctx.request.ip}` : caller;
  const wait = rateLimiter.take(bucket, `${path}:${key}`);
  if (wait > 0) throw limited(ctx, wait);
}

/** A bad token is refused later, with its own code; until then it counts against the address. */
async function callerName(ctx: Context): Promise<string> {
  if (ctx.request.authorization === undefined) return 'public';
  return ctx.actor().then(actorName, () => 'public');
}

export function limited(ctx: Context, retryAfterSeconds: number): DomainError {
  ctx.responseHeaders.set('retry-after', String(retryAfterSeconds));
  return new DomainError('rate_limited', { retryAfterSeconds });
}

function noteFailure(ctx: Context, path: string, error: DomainError): void {
  if (error.retryAfterSeconds !== undefined) ctx.responseHeaders.set('retry-after', String(error.retryAfterSeconds));
  if (error.code === 'internal_error') {
    ctx.services.log.error({ err: error.cause, path, request_id: ctx.request.id }, 'procedure failed');
  }
}

/** Anybody, signed in or not, with a good token or a bad one. */
export const publicProcedure = procedureFor('public', () => undefined);

/** A signed-in person, admin or not: own rows only. */
export const userProcedure = procedureFor('person', async (ctx, scope) => asPerson(await knownActor(ctx, scope)));

/** A person for own rows; services and admins for anybody's. */
export const accountProcedure = procedureFor('account', knownActor);

/** Admins, and services whose key has the scope that the procedure's meta names. */
export const adminProcedure = procedureFor('admin', async (ctx, scope) => {
  const actor = await knownActor(ctx, scope);
  if (actor.kind === 'user') throw new DomainError('admin_required');
  return actor;
});

async function knownActor(ctx: Context, scope: Scope | undefined): Promise<AccountActor> {
  const actor = await ctx.actor();
  if (actor.kind === 'public') throw new DomainError('not_authenticated');
  if (actor.kind === 'service') checkScope(actor, scope);
  return actor;
}

function checkScope(actor: ServiceActor, scope: Scope | undefined): void {
  if (scope === undefined) throw new DomainError('not_allowed');
  if (!actor.scopes.has(scope)) throw new DomainError('scope_required');
}

function asPerson(actor: Actor): PersonActor {
  if (actor.kind === 'user' || actor.kind === 'admin') return actor;
  throw new DomainError('not_allowed');
}
