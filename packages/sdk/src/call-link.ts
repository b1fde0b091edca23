import type { Operation, TRPCClientError, TRPCLink } from '@trpc/client';
import type { AnyRouter } from '@trpc/server';
import { type Observable, observable } from '@trpc/server/observable';
import { pause, withDeadline } from './deadline.ts';
import { toVpnApiError, VpnApiError } from './errors.ts';
import { randomId } from './random-id.ts';
import { type Repeatability, type RetryPolicy, retryDelayMs } from './retry.ts';

/** Who a call is made for, and what to do when the server no longer accepts the token. */
export interface CredentialSource {
  /** The bearer token to send; undefined for a call without. */
  token(): Promise<string | undefined>;
  /** Another token after `refused` was refused; undefined when there is none. */
  replace(refused: string): Promise<string | undefined>;
}

export interface CallLinkOptions {
  readonly credentials: CredentialSource;
  readonly retry: RetryPolicy;
  /** For one attempt, in milliseconds. */
  readonly timeoutMs: number;
  /** Paths of mutations for which the server honours `Idempotency-Key`. */
  readonly idempotent: ReadonlySet<string>;
  /** Paths of mutations that the server makes repeatable without a key. */
  readonly repeatable: ReadonlySet<string>;
  /** Paths that are called without credentials. */
  readonly anonymous: ReadonlySet<string>;
}

/** What one call may set for itself, as tRPC's `context`: `api.payment.create.mutate(input, { context: { … } })`. */
export interface CallContext {
  /** 1–255 printable ASCII characters. Default for what the server runs once per key: a new random one. */
  readonly idempotencyKey?: string;
  /** For each attempt, in milliseconds. */
  readonly timeoutMs?: number;
  readonly retries?: number;
}

/** What the terminating links put into headers. */
export interface SentContext {
  readonly bearer?: string | undefined;
  readonly idempotencyKey?: string | undefined;
}

const sent = Symbol('sent');

export function sentContextOf(op: Operation): SentContext {
  return (op.context as { readonly [sent]?: SentContext })[sent] ?? {};
}

/** Every call passes here: credentials, deadline, repeats, one kind of error. */
export function callLink<TRouter extends AnyRouter>(options: CallLinkOptions): TRPCLink<TRouter> {
  return () =>
    ({ op, next }) =>
      observable((observer) => {
        runCall(op, options, (attempt) => firstOf(next(attempt))).then(
          (envelope) => {
            observer.next(envelope);
            observer.complete();
          },
          (error: unknown) => observer.error(toVpnApiError(error) as TRPCClientError<AnyRouter>),
        );
      });
}

async function runCall<T>(
  op: Operation,
  options: CallLinkOptions,
  send: (attempt: Operation) => Promise<T>,
): Promise<T> {
  const plan = planOf(op, options);
  let bearer = plan.anonymous ? undefined : await unlessAborted(op, () => options.credentials.token());
  let mayReplace = bearer !== undefined;
  for (let repeats = 0; ; ) {
    try {
      const deadline = { signal: op.signal, timeoutMs: plan.timeoutMs };
      const context = { ...op.context, [sent]: { bearer, idempotencyKey: plan.idempotencyKey } };
      return await withDeadline(deadline, (signal) => send({ ...op, signal, context }));
    } catch (cause) {
      const error = toVpnApiError(cause);
      if (mayReplace && bearer !== undefined && wasTokenRefused(error)) {
        mayReplace = false;
        const refused = bearer;
        bearer = await unlessAborted(op, () => options.credentials.replace(refused));
        if (bearer === undefined) throw error;
        continue;
      }
      const delayMs = retryDelayMs({ error, repeats, repeatability: plan.repeatability }, plan.retry);
      if (delayMs === undefined) throw error;
      await pause(delayMs, op.signal);
      repeats += 1;
    }
  }
}

interface CallPlan {
  readonly anonymous: boolean;
  readonly repeatability: Repeatability;
  readonly idempotencyKey: string | undefined;
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
}

function planOf(op: Operation, options: CallLinkOptions): CallPlan {
  const context = op.context as CallContext;
  const keyed = op.type === 'mutation' && options.idempotent.has(op.path);
  const harmless = op.type === 'query' || options.repeatable.has(op.path);
  return {
    anonymous: options.anonymous.has(op.path),
    repeatability: harmless ? 'harmless' : keyed ? 'keyed' : 'unsafe',
    // One key for all attempts of the call: this is what makes a repeat find the first attempt's outcome.
    idempotencyKey: checkedKey(op, context.idempotencyKey) ?? (keyed ? randomId() : undefined),
    timeoutMs: context.timeoutMs ?? options.timeoutMs,
    retry: { ...options.retry, retries: context.retries ?? options.retry.retries },
  };
}

function checkedKey(op: Operation, key: string | undefined): string | undefined {
  if (key === undefined || op.type !== 'mutation') return undefined;
  if (/^[\x20-\x7e]{1,255}$/.test(key)) return key;
  throw new VpnApiError({ code: 'client_error', message: 'idempotencyKey must be 1 to 255 printable characters' });
}

/** Not every 401: a wrong password says nothing about the token. */
function wasTokenRefused(error: VpnApiError): boolean {
  return error.code === 'invalid_token' || error.code === 'not_authenticated';
}

/** A refresh is shared by many calls, so one caller who gives up leaves it running and only stops waiting. */
function unlessAborted<T>(op: Operation, work: () => Promise<T>): Promise<T> {
  return withDeadline({ signal: op.signal }, work);
}

/** An HTTP call gives one value or one error. */
function firstOf<T>(source: Observable<T, unknown>): Promise<T> {
  return new Promise((resolve, reject) => {
    source.subscribe({ next: resolve, error: reject });
  });
}
