import { mkdir, writeFile } from 'node:fs/promises';
import { setup, teardown } from '../../../tooling/vitest/postgres.ts';
import { engines, openTestStore } from '../src/testing.ts';
import { dumpSchema } from './dump-schema.ts';
import { generateTypes } from './generate-types.ts';

const root = new URL('../', import.meta.url);

await setup();
try {
  await mkdir(new URL('schema', root), { recursive: true });
  for (const engine of engines) {
    await using store = await openTestStore(engine);
    await writeFile(new URL('src/schema.generated.ts', root), await generateTypes(store));
    await writeFile(new URL(`schema/${engine}.sql`, root), await dumpSchema(store));
  }
} finally {
  await teardown();
}
