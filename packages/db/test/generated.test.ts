import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { generateTypes } from '../scripts/generate-types.ts';
import { engines, openTestStore } from '../src/testing.ts';

describe.each(engines)('generated files on %s', (engine) => {
  test('schema.generated.ts is what a fresh database gives; otherwise run "npm run generate"', async () => {
    await using store = await openTestStore(engine);
    expect(await generateTypes(store)).toBe(await readGenerated('../src/schema.generated.ts'));
  });
});

function readGenerated(path: string): Promise<string> {
  return readFile(new URL(path, import.meta.url), 'utf8');
}
