import type { AnyTRPCProcedure } from '@trpc/server';
import type { z } from 'zod';
import { appRouter } from '../../src/api/router.ts';
import type { Meta } from '../../src/api/trpc.ts';
import { type RestRoute, restRoutes } from '../../src/http/rest-routes.ts';
import type { Answer, App, RestOptions, TrpcBody } from '../harness.ts';

/** One procedure of the router as the generated tests see it. */
export interface Procedure {
  /** `tariff.get` */
  readonly name: string;
  readonly type: 'query' | 'mutation';
  readonly meta: Meta;
  readonly input: z.ZodObject | undefined;
  readonly output: z.ZodType;
  /** Its own REST route, not an alias. */
  readonly route: RestRoute;
}

/** Every procedure of the server, in the router's order. */
export const procedures: readonly Procedure[] = listProcedures();

function listProcedures(): Procedure[] {
  const routes = restRoutes(appRouter);
  const entries = Object.entries(appRouter._def.procedures as unknown as Record<string, AnyTRPCProcedure>);
  return entries.map(([name, { _def }]) => {
    const def = _def as unknown as Pick<Procedure, 'type' | 'meta' | 'output'> & { inputs: z.ZodObject[] };
    const route = routes.find(({ procedure, isAlias }) => procedure === name && !isAlias);
    if (route === undefined) throw new Error(`${name} has no REST route`);
    return { name, type: def.type, meta: def.meta, input: def.inputs[0], output: def.output, route };
  });
}

export type Input = Readonly<Record<string, unknown>>;
export type Transport = 'rest' | 'trpc';
export const transports: readonly Transport[] = ['rest', 'trpc'];

/** What a caller gets, the same for both transports. */
export interface Outcome {
  readonly status: number;
  /** `code` of the problem; undefined on success. */
  readonly code: string | undefined;
  readonly problem: Readonly<Record<string, unknown>> | undefined;
  /** The answer's data; undefined for images and files. */
  readonly data: unknown;
  readonly text: string;
  readonly headers: Headers;
}

/** Calls a procedure with a valid or invalid input over one of the transports. */
export async function callProcedure(
  app: App,
  transport: Transport,
  procedure: Procedure,
  input: Input,
  options: RestOptions = {},
): Promise<Outcome> {
  if (transport === 'rest') return restOutcome(await app.rest(...restCall(procedure, input, options)));
  const send = procedure.type === 'query' ? app.trpcQuery : app.trpcMutate;
  return trpcOutcome(await send(procedure.name, procedure.input === undefined ? undefined : input, options));
}

/** Where each key of an input goes in a REST request. Raw procedures take headers and bytes. */
export function restCall(
  { route, meta }: Procedure,
  input: Input,
  options: RestOptions,
): [string, string, RestOptions] {
  const rest = Object.entries(input).filter(([key]) => !route.pathKeys.includes(key));
  const path = route.path.replaceAll(/\{([a-z0-9_]+)\}/g, (_, key: string) => encodeURIComponent(String(input[key])));
  if (meta.rest?.raw === true) {
    const { headers, raw_body } = input as { headers: Record<string, string>; raw_body: string };
    return [route.method, path, { ...options, body: raw_body, headers: { ...options.headers, ...headers } }];
  }
  const hasBody = route.method === 'POST' || route.method === 'PUT';
  if (hasBody) return [route.method, path, { ...options, body: Object.fromEntries(rest) }];
  const query = new URLSearchParams(rest.map(([key, value]): [string, string] => [key, String(value)]));
  return [route.method, query.size === 0 ? path : `${path}?${query}`, options];
}

export function restOutcome({ status, headers, body, text }: Answer<unknown>): Outcome {
  const problem = status >= 400 ? (body as Record<string, unknown> | undefined) : undefined;
  return { status, headers, text, problem, code: problem?.code as string | undefined, data: body };
}

export function trpcOutcome({ status, headers, body, text }: Answer<TrpcBody<unknown>>): Outcome {
  // What the HTTP server itself refuses, such as endless headers, never came to tRPC.
  const problem = status >= 400 ? (body?.error?.data?.problem ?? (body as Record<string, unknown>)) : undefined;
  return { status, headers, text, problem, code: problem?.code as string | undefined, data: body?.result?.data };
}
