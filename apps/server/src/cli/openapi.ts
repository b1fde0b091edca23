import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { AnyTRPCRouter } from '@trpc/server';
import { buildOpenApiDocument } from '../http/openapi.ts';

/** The committed document, beside the server's package.json. */
export const openApiFile = fileURLToPath(new URL('../../openapi.json', import.meta.url));

/** Identical for the same router, so that a difference always means a changed contract. */
export function openApiText(router: AnyTRPCRouter, version: string): string {
  return `${JSON.stringify(buildOpenApiDocument(router, version), null, 2)}\n`;
}

/** Writes the document of the router to `file`. */
export async function writeOpenApi(router: AnyTRPCRouter, version: string, file = openApiFile): Promise<void> {
  await writeFile(file, openApiText(router, version));
}

/** Whether the committed document is the one that the router gives. */
export async function isOpenApiFresh(router: AnyTRPCRouter, version: string, file = openApiFile): Promise<boolean> {
  return (await readFile(file, 'utf8').catch(() => '')) === openApiText(router, version);
}
