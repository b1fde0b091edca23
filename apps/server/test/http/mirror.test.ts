import type { AnyTRPCProcedure } from '@trpc/server';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { appRouter } from '../../src/api/router.ts';
import type { Meta } from '../../src/api/trpc.ts';
import { buildOpenApiDocument } from '../../src/http/openapi.ts';
import { restRoutes } from '../../src/http/rest-routes.ts';
import { startFixture } from './fixture-server.ts';

const procedures = Object.entries(appRouter._def.procedures as unknown as Record<string, AnyTRPCProcedure>);
const routes = restRoutes(appRouter);
const document = buildOpenApiDocument(appRouter, '0.0.0');

describe('the full router', () => {
  it('mirrors every procedure as REST', () => {
    const mirrored = new Set(routes.map(({ procedure }) => procedure));
    expect(procedures.map(([name]) => name).filter((name) => !mirrored.has(name))).toEqual([]);
  });

  it('documents exactly the routes that it has', () => {
    const documented = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(documented.sort()).toEqual(routes.map(({ method, path }) => `${method} ${path}`).sort());
  });

  it('serves exactly the routes that it documents', async () => {
    await using server = await startFixture({ router: appRouter });
    await server.app.ready();
    for (const { method, path } of routes) {
      const url = path.replaceAll(/\{([a-z0-9_]+)\}/g, ':$1');
      expect(server.app.hasRoute({ method, url }), `${method} ${path}`).toBe(true);
    }
  });

  it('names other methods of every path in Allow', async () => {
    await using server = await startFixture({ router: appRouter });
    for (const path of new Set(routes.map((route) => route.path))) {
      const own = routes.filter((route) => route.path === path).map(({ method }) => method);
      const response = await server.fetch(path.replaceAll(/\{[a-z0-9_]+\}/g, '1'), { method: 'PATCH' });
      expect(response.status, path).toBe(405);
      const allowed = response.headers.get('allow')?.split(', ') ?? [];
      expect(allowed.filter((method) => method !== 'HEAD' && method !== 'OPTIONS').sort(), path).toEqual(own.sort());
    }
  });

  it.each(procedures)('%s is declared so that both transports can hold it', (_name, procedure) => {
    const def = procedure._def as unknown as { type: string; meta: Meta; inputs: z.ZodObject[]; output?: z.ZodType };
    const { meta, type } = def;
    const [input] = def.inputs;
    expect(def.output).toBeDefined();
    expect(meta.access).toBeDefined();
    expect(['person', 'public'].includes(meta.access ?? '') && meta.scope !== undefined).toBe(false);
    // A REST cache or crawler may repeat a GET at will.
    if (meta.openapi?.method === 'GET') expect(type).toBe('query');
    else expect(type).toBe('mutation');
    if (input === undefined) return;
    expect(input).toBeInstanceOf(z.ZodObject);
    // Strict: unknown keys are refused, and mass assignment with them.
    expect(input.safeParse({ __unknown_key: 1 }).error?.issues.some(({ code }) => code === 'unrecognized_keys')).toBe(
      true,
    );
    for (const key of [...(meta.rest?.query ?? [])]) expect(input.shape).toHaveProperty(key);
    for (const key of meta.rest?.legacyKeys ?? []) expect(input.shape).not.toHaveProperty(key);
  });

  it('gives every operation a name, a tag and a summary', () => {
    for (const [path, item] of Object.entries(document.paths)) {
      for (const operation of Object.values(item)) {
        expect(operation.operationId, path).toBeTypeOf('string');
        expect(operation.summary, path).toMatch(/\S/);
        expect(operation.tags, path).toHaveLength(1);
      }
    }
  });
});
