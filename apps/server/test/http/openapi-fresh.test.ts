import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { openApiText } from '../../src/cli/openapi.ts';

test('openapi.json is what the router says', async () => {
  const file = fileURLToPath(new URL('../../openapi.json', import.meta.url));
  expect(await readFile(file, 'utf8'), 'stale: run npm run generate').toBe(openApiText());
});
