import { describe, expect, it } from 'vitest';
import { errorTable } from '../../src/api/error-table.ts';
import { buildOpenApiDocument } from '../../src/http/openapi.ts';
import { fixtureRouter } from './fixture-router.ts';
import { startFixture } from './fixture-server.ts';

const document = buildOpenApiDocument(fixtureRouter, '1.2.3');
const operation = (method: string, path: string) => {
  const found = document.paths[path]?.[method];
  if (found === undefined) throw new Error(`no ${method} ${path}`);
  return found;
};

describe('the OpenAPI document', () => {
  it('is OpenAPI 3.1 and the same every time', () => {
    expect(document.openapi).toBe('3.1.0');
    expect(document.info.version).toBe('1.2.3');
    expect(JSON.stringify(buildOpenApiDocument(fixtureRouter, '1.2.3'))).toBe(JSON.stringify(document));
  });

  it('changes no schema: tRPC refuses the same after it was built', async () => {
    await using server = await startFixture();
    const response = await server.fetch(`/trpc/thing.list?input=${encodeURIComponent('{"flag":"false"}')}`);
    expect(response.status).toBe(400);
  });

  it('is served as one string', async () => {
    await using server = await startFixture();
    const response = await server.fetch('/openapi.json');
    expect(response.headers.get('content-type')).toContain('application/json');
    expect(await response.json()).toEqual(document);
  });

  it('has an operation for every alias, each with its own name', () => {
    const ids = Object.values(document.paths).flatMap((item) =>
      Object.values(item).map(({ operationId }) => operationId),
    );
    expect(new Set(ids).size).toBe(ids.length);
    expect(operation('post', '/things').operationId).toBe('thing.create@post_things');
    expect(operation('post', '/things/create').operationId).toBe('thing.create');
    expect(Object.keys(document.paths)).not.toContain('/odd.hidden');
  });

  it('says what comes from path, query, header and body', () => {
    const create = operation('post', '/things/create');
    const places = create.parameters?.map((parameter) => `${parameter.in} ${parameter.name}`);
    expect(places).toEqual(['query count', 'query flag', 'header Idempotency-Key']);
    expect(create.requestBody?.required).toBe(false);
    const update = operation('put', '/things/{thing_id}');
    expect(update.parameters?.map(({ in: place, name }) => `${place} ${name}`)).toEqual(['path thing_id']);
    const body = update.requestBody?.content['application/json'] as { schema: Record<string, unknown> };
    expect(body.schema).toMatchObject({ additionalProperties: false, properties: { name: {} } });
    expect(body.schema.properties).not.toHaveProperty('thing_id');
  });

  it('says what is consumed and produced beside JSON', () => {
    expect(Object.keys(operation('post', '/login').requestBody?.content ?? {})).toEqual([
      'application/json',
      'application/x-www-form-urlencoded',
    ]);
    const content = (path: string) => Object.keys(operation('get', path).responses['200']?.content ?? {});
    expect(content('/vpn_peers/{peer_id}/config')).toEqual(['application/json', 'text/plain']);
    expect(content('/vpn_peers/{peer_id}/qr')).toEqual(['image/svg+xml', 'image/png']);
    expect(operation('post', '/payments/webhook').requestBody?.content).toHaveProperty(['*/*']);
    expect(operation('post', '/payments/webhook/{provider}').parameters).toHaveLength(1);
  });

  it('answers every refusal as a problem, with an example of every code', () => {
    const { responses } = operation('get', '/whoami');
    expect(responses['401']).toEqual({ $ref: '#/components/responses/Problem401' });
    const shared = document.components.responses as Record<string, { content: Record<string, { examples: object }> }>;
    const codes = Object.values(shared).flatMap(({ content }) =>
      Object.keys(content['application/problem+json']?.examples ?? {}),
    );
    expect(codes.sort()).toEqual(Object.keys(errorTable).sort());
    expect(JSON.stringify(document)).not.toContain('error.BAD_REQUEST');
  });

  it('asks for a bearer token or the password flow where a caller must be known', () => {
    expect(operation('get', '/whoami').security).toEqual([{ bearer: [] }, { password: [] }]);
    expect(operation('get', '/things').security).toBeUndefined();
    expect(document.components.securitySchemes).toMatchObject({
      bearer: { type: 'http', scheme: 'bearer' },
      password: { flows: { password: { tokenUrl: '/auth/login' } } },
    });
  });

  it('names the headers of answers', () => {
    const names = (method: string, path: string) =>
      Object.keys(operation(method, path).responses['200']?.headers ?? {});
    expect(names('get', '/things')).toEqual(['X-Request-Id', 'X-Total-Count']);
    expect(names('post', '/things')).toEqual(['X-Request-Id', 'Idempotency-Replayed']);
  });

  it('has no dangling reference', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(([, path = '']) => path);
    expect(references.length).toBeGreaterThan(50);
    for (const path of new Set(references)) {
      const target = path.split('/').reduce<unknown>((node, key) => (node as Record<string, unknown>)?.[key], document);
      expect(target, path).toBeDefined();
    }
  });
});
