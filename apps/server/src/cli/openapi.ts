import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { AnyTRPCRouter } from '@trpc/server';
import serverPackage from '../../package.json' with { type: 'json' };
import { appRouter } from '../api/router.ts';
import { buildOpenApiDocument } from '../http/openapi.ts';

/** The committed document, beside the server's package.json. */
const openApiFile = fileURLToPath(new URL('../../openapi.json', import.meta.url));

/** Identical for the same router, so that a difference always means a changed contract. */
export function openApiText(router: AnyTRPCRouter = appRouter): string {
  return `${JSON.stringify(buildOpenApiDocument(router, serverPackage.version), null, 2)}\n`;
}

/** `openapi` prints the document, `openapi --write` stores it; a test proves the stored one fresh. */
export async function runOpenApi(args: readonly string[]): Promise<number> {
  if (args.includes('--write')) await writeFile(openApiFile, openApiText());
  else process.stdout.write(openApiText());
  return 0;
}
