import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { dumpSchema } from '../scripts/dump-schema.ts';
import { generateTypes } from '../scripts/generate-types.ts';
import { engines, openTestStore } from '../src/testing.ts';

/** Whoever changes a migration runs "npm run generate" and commits what it wrote. */
describe.each(engines)('generated files on %s', (engine) => {
  test('the types are those of a fresh database, the same on both engines', async () => {
    await using store = await openTestStore(engine);
    expect(await generateTypes(store)).toBe(await readGenerated('src/schema.generated.ts'));
  });

  test('the schema dump is that of a fresh database', async () => {
    await using store = await openTestStore(engine);
    expect(await dumpSchema(store)).toBe(await readGenerated(`schema/${engine}.sql`));
  });
});

function readGenerated(path: string): Promise<string> {
  return readFile(new URL(`../${path}`, import.meta.url), 'utf8');
}
