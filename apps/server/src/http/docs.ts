import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { contentSecurityPolicy } from './security-headers.ts';

const ASSET_SECONDS = 3600;

/** Swagger UI's own files, by the name under `/docs/`. Nothing else in its package is reachable. */
const assets: Readonly<Record<string, string>> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
  'favicon-32x32.png': 'image/png',
};

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>VPN API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/init.js"></script>
</body>
</html>
`;

const initScript = `window.SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  validatorUrl: null,
});
`;

/**
 * Scripts, styles and calls of this origin only. Swagger UI sets styles through the DOM, which needs no `unsafe-inline`,
 * and its style sheet draws icons from `data:` images.
 */
const policy = contentSecurityPolicy({
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self'",
  'connect-src': "'self'",
  'img-src': "'self' data:",
  'frame-ancestors': "'none'",
  'base-uri': "'none'",
  'form-action': "'none'",
});

/** `/openapi.json` and a page that shows it, all from files of this machine. */
export async function mountDocs(app: FastifyInstance, document: string): Promise<void> {
  app.get('/openapi.json', async (_request, reply) => sendFile(reply, 'application/json; charset=utf-8', document));
  app.get('/docs', async (_request, reply) =>
    sendFile(reply.header('content-security-policy', policy), 'text/html; charset=utf-8', page),
  );
  app.get('/docs/init.js', async (_request, reply) => sendFile(reply, 'text/javascript; charset=utf-8', initScript));
  for (const [name, type] of Object.entries(assets)) {
    const read = once(() => readFile(join(swaggerFolder(), name)));
    app.get(`/docs/${name}`, async (_request, reply) => sendFile(reply, type, await read()));
  }
}

function sendFile(reply: FastifyReply, type: string, content: string | Buffer): FastifyReply {
  return reply.header('content-type', type).header('cache-control', `public, max-age=${ASSET_SECONDS}`).send(content);
}

function swaggerFolder(): string {
  return dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
