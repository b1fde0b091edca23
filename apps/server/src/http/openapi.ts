import type { AnyTRPCRouter } from '@trpc/server';
import { generateOpenApiDocument, type OpenApiMeta, type OpenApiRouter } from 'trpc-openapi';
import { z } from 'zod';
import { problemComponents, problemResponses } from './openapi-problems.ts';
import { queryKeys } from './rest-input.ts';
import { type RestRoute, restRoutes } from './rest-routes.ts';

type Json = Record<string, unknown>;

/** The parts of an operation that are completed here; the rest is as the generator wrote it. */
interface Operation extends Json {
  description?: string;
  parameters?: Json[];
  requestBody?: { required?: boolean; content: Record<string, Json> };
  responses: Record<string, Json>;
}

export interface OpenApiDocument extends Json {
  openapi: string;
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
  components: Record<string, Json>;
}

/**
 * The OpenAPI 3.1 document of the REST mirror. `trpc-openapi` turns meta and zod schemas into operations; what it cannot
 * say (aliases, other media types, query input of a POST, problem details, headers) is completed from our own meta. The
 * same router gives the same bytes.
 */
export function buildOpenApiDocument(router: AnyTRPCRouter, version: string): OpenApiDocument {
  const routes = restRoutes(router);
  const document = generateOpenApiDocument(asRouter(router, routes), {
    title: 'VPN API',
    description:
      'Sell WireGuard access. Every operation is also a tRPC procedure under `/trpc`, named by its operationId.',
    version,
    openApiVersion: '3.1.0',
    baseUrl: '/',
    tags: [...new Set(routes.flatMap(({ meta }) => meta.openapi?.tags ?? []))],
    securitySchemes: {
      bearer: { type: 'http', scheme: 'bearer', description: 'An access token, or an API key (`vpk_…`).' },
      password: { type: 'oauth2', flows: { password: { tokenUrl: '/auth/login', scopes: {} } } },
    },
  }) as unknown as OpenApiDocument;
  for (const route of routes) completeOperation(operationOf(document, route), route);
  document.components = { ...document.components, ...problemComponents(), headers };
  // Through JSON: leaves out what is undefined and cuts every tie to the schemas.
  return JSON.parse(JSON.stringify(document)) as OpenApiDocument;
}

function operationOf(document: OpenApiDocument, { procedure, path, method }: RestRoute): Operation {
  const operation = document.paths[path]?.[method.toLowerCase()];
  if (operation === undefined) throw new Error(`${procedure} is missing in the document`);
  return operation;
}

/** What the generator reads of a router: one entry for each route, so that an alias is an operation of its own. */
function asRouter(router: AnyTRPCRouter, routes: readonly RestRoute[]): OpenApiRouter {
  const known = router._def.procedures as Record<string, { readonly _def: object }>;
  const entries = routes.map((route, index) => {
    const def = {
      ...known[route.procedure]?._def,
      meta: { openapi: openApiMeta(route) },
      inputs: [documentedInput(route)],
    };
    return [`${route.procedure}#${index}`, { _def: def }];
  });
  return { _def: { procedures: Object.fromEntries(entries) } } as unknown as OpenApiRouter;
}

function openApiMeta(route: RestRoute): OpenApiMeta['openapi'] {
  const { meta, method, path, procedure, isAlias } = route;
  return {
    ...meta.openapi,
    method,
    path: path as `/${string}`,
    operationId: isAlias ? `${procedure}@${method.toLowerCase()}${path.replaceAll(/[/{}]+/g, '_')}` : procedure,
    protect: isProtected(route),
    // Its error shape is not ours; problem responses are added below.
    errorResponses: [],
  };
}

function isProtected({ meta }: RestRoute): boolean {
  return meta.openapi?.protect ?? meta.access !== 'public';
}

/** A raw procedure's headers and bytes are the request itself, not parameters of it. */
function documentedInput({ input, meta, pathKeys }: RestRoute): z.ZodObject {
  if (input === undefined) return z.object({});
  if (!meta.rest?.raw) return input;
  return z.object(Object.fromEntries(pathKeys.map((key) => [key, input.shape[key] as z.ZodType])));
}

function completeOperation(operation: Operation, route: RestRoute): void {
  const notes = [operation.description, accessNote(route)].filter((note) => note !== undefined);
  if (notes.length > 0) operation.description = notes.join('\n\n');
  const parameters = [...(operation.parameters ?? []), ...extraParameters(route)];
  if (parameters.length > 0) operation.parameters = parameters;
  completeBody(operation, route);
  completeSuccess(operation.responses['200'] ?? {}, route);
  operation.responses = { ...operation.responses, ...problemResponses(route, isProtected(route)) };
}

function accessNote({ meta }: RestRoute): string | undefined {
  if (meta.access === undefined || meta.access === 'public') return undefined;
  const key = meta.scope === undefined ? 'API keys cannot call it.' : `API keys need the scope \`${meta.scope}\`.`;
  const who = { person: 'For signed-in users.', account: 'Users see and change their own.', admin: 'For admins.' };
  return `${who[meta.access]} ${key}`;
}

function extraParameters(route: RestRoute): Json[] {
  const { meta, method, input } = route;
  const hasBody = method === 'POST' || method === 'PUT';
  const fromQuery = hasBody ? queryKeys(route) : [];
  const query = fromQuery.map((name) => ({ in: 'query', name, schema: jsonSchema(input?.shape[name]) }));
  return meta.idempotent ? [...query, idempotencyKey] : query;
}

const idempotencyKey = {
  in: 'header',
  name: 'Idempotency-Key',
  description: 'Repeats with the same key and body answer the stored outcome for 24 hours.',
  schema: { type: 'string', minLength: 1, maxLength: 255 },
};

function jsonSchema(schema: z.core.$ZodType | undefined): Json {
  if (schema === undefined) return {};
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return rest as Json;
}

const signedBody = {
  required: true,
  description: 'The event exactly as the provider signed it; verified byte for byte before it is parsed.',
  content: { '*/*': { schema: { type: 'string', format: 'binary' } } },
};

const passwordForm = {
  type: 'object',
  properties: { username: { type: 'string' }, password: { type: 'string', format: 'password' } },
  required: ['username', 'password'],
};

function completeBody(operation: Operation, { meta, method }: RestRoute): void {
  if (meta.rest?.raw) operation.requestBody = signedBody;
  const body = operation.requestBody;
  if (body === undefined) return;
  // The query string may bring what the body does not.
  if (method === 'POST' && meta.rest?.query !== undefined) body.required = false;
  if (meta.rest?.form !== undefined) body.content['application/x-www-form-urlencoded'] = { schema: passwordForm };
}

function completeSuccess(response: Json, { meta, input }: RestRoute): void {
  const content = response.content as Record<string, Json>;
  if (meta.rest?.produces === 'wg-quick') content['text/plain'] = { schema: { type: 'string' } };
  if (meta.rest?.produces === 'qr') response.content = imageContent;
  const names = ['X-Request-Id'];
  if (input !== undefined && Object.hasOwn(input.shape, 'with_total')) names.push('X-Total-Count');
  if (meta.idempotent) names.push('Idempotency-Replayed');
  response.headers = Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}

const imageContent = {
  'image/svg+xml': { schema: { type: 'string' } },
  'image/png': { schema: { type: 'string', format: 'binary' } },
};

const headers = {
  'X-Request-Id': { description: 'Names this request in the log of the server.', schema: { type: 'string' } },
  'X-Total-Count': { description: 'Rows of the whole list, with `with_total=true`.', schema: { type: 'integer' } },
  'Idempotency-Replayed': { description: '`true` when the answer is a stored one.', schema: { type: 'string' } },
  'Retry-After': { description: 'Seconds to wait.', schema: { type: 'integer' } },
};
