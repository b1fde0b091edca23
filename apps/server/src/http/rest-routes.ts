import type { AnyTRPCProcedure, AnyTRPCRouter } from '@trpc/server';
import type { z } from 'zod';
import type { Meta } from '../api/trpc.ts';

export type RestMethod = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** One REST route of a procedure: its own path, or an alias. */
export interface RestRoute {
  /** `tariff.get` */
  readonly procedure: string;
  readonly type: 'query' | 'mutation';
  readonly method: RestMethod;
  /** With path keys in braces, as in the document: `/tariffs/{tariff_id}`. */
  readonly path: string;
  readonly pathKeys: readonly string[];
  readonly isAlias: boolean;
  readonly meta: Meta;
  /** Undefined when the procedure takes no input. */
  readonly input: z.ZodObject | undefined;
  readonly output: z.ZodType | undefined;
}

/** All REST routes of a router, in its order. Procedures without `openapi` meta are reached over tRPC only. */
export function restRoutes(router: AnyTRPCRouter): readonly RestRoute[] {
  const procedures = Object.entries(router._def.procedures as Record<string, AnyTRPCProcedure>);
  const routes = procedures.flatMap(([name, procedure]) => routesOf(name, procedure));
  assertUnique(routes);
  return routes;
}

interface ProcedureDef {
  readonly type: RestRoute['type'];
  readonly meta?: Meta;
  readonly inputs: readonly z.ZodObject[];
  readonly output?: z.ZodType;
}

function routesOf(procedure: string, { _def }: AnyTRPCProcedure): RestRoute[] {
  const { type, meta, inputs, output } = _def as unknown as ProcedureDef;
  if (meta?.openapi === undefined) return [];
  if (inputs.length > 1) throw new Error(`${procedure}: give the whole input in one schema`);
  const common = { procedure, type, meta, input: inputs[0], output };
  const { method, path } = meta.openapi;
  const places = [
    { method, path, isAlias: false },
    ...(meta.rest?.aliases ?? []).map((at) => ({ ...at, isAlias: true })),
  ];
  return places.map((place) => ({
    ...common,
    ...place,
    method: place.method as RestMethod,
    pathKeys: [...place.path.matchAll(/\{([a-z0-9_]+)\}/g)].map(([, key = '']) => key),
  }));
}

function assertUnique(routes: readonly RestRoute[]): void {
  const seen = new Map<string, string>();
  for (const { method, path, procedure } of routes) {
    const place = `${method} ${path.replaceAll(/\{[a-z0-9_]+\}/g, '{}')}`;
    const other = seen.get(place);
    if (other !== undefined) throw new Error(`${procedure} and ${other} are both ${place}`);
    seen.set(place, procedure);
  }
}

/** `/tariffs/{tariff_id}` as Fastify writes it. */
export function fastifyPath(path: string): string {
  return path.replaceAll(/\{([a-z0-9_]+)\}/g, ':$1');
}
