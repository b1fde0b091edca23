import type { FastifyRequest } from 'fastify';
import { invalidField } from '../domain/errors.ts';
import { type Coerce, compileCoercion } from './coerce.ts';
import type { RestRoute } from './rest-routes.ts';

/** Builds a procedure's input from a request. @throws DomainError `validation_failed` */
export type ReadInput = (request: FastifyRequest) => unknown;

type Source = Readonly<Record<string, unknown>>;
/** Copies the known keys of a path or query string into the input, coerced. */
type Copy = (source: Record<string, string | string[]>, input: Record<string, unknown>) => void;

/**
 * Decides once, at start-up, where each key of a route's input comes from. GET and DELETE: path and query. POST and PUT:
 * path and JSON body, and from the query string only the keys that `rest.query` names.
 */
export function compileInput(route: RestRoute): ReadInput {
  const { input } = route;
  if (input === undefined) return () => undefined;
  const shape: Readonly<Record<string, unknown>> = input.shape;
  const unknown = route.pathKeys.find((key) => !Object.hasOwn(shape, key));
  if (unknown !== undefined) throw new Error(`${route.procedure}: the path key ${unknown} is not in the input`);
  const copyPath = compileCopy(route, route.pathKeys);
  const copyQuery = compileCopy(route, queryKeys(route));
  const hasBody = route.method === 'POST' || route.method === 'PUT';
  const addBody = hasBody ? compileBody(route) : undefined;
  return (request) => {
    const result: Record<string, unknown> = {};
    copyQuery(request.query as Record<string, string | string[]>, result);
    addBody?.(request.body, result);
    copyPath(request.params as Record<string, string>, result);
    return result;
  };
}

/** The input keys that a route takes from the query string. */
export function queryKeys({ method, meta, input, pathKeys }: RestRoute): readonly string[] {
  if (input === undefined) return [];
  if (method === 'POST' || method === 'PUT') return meta.rest?.query ?? [];
  return Object.keys(input.shape).filter((key) => !pathKeys.includes(key));
}

function compileCopy({ input }: RestRoute, keys: readonly string[]): Copy {
  const fields = keys.map((key): [string, Coerce] => {
    const schema = input?.shape[key];
    if (schema === undefined) throw new Error(`the input has no key ${key}`);
    return [key, compileCoercion(schema)];
  });
  return (source, input) => {
    for (const [key, coerce] of fields) {
      const given = source[key];
      if (given !== undefined) input[key] = coerce(key, given);
    }
  };
}

function compileBody({ pathKeys, meta }: RestRoute) {
  const legacyKeys: ReadonlySet<string> = new Set(meta.rest?.legacyKeys);
  return (body: unknown, input: Record<string, unknown>): void => {
    if (body === undefined) return;
    if (!isObject(body)) throw invalidField('', 'the body must be a JSON object');
    for (const key of Object.keys(body)) {
      if (pathKeys.includes(key)) throw invalidField(key, 'is given by the path');
      if (!legacyKeys.has(key)) input[key] = body[key];
    }
  };
}

function isObject(value: unknown): value is Source {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
