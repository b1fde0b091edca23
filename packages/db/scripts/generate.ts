import { writeFile } from 'node:fs/promises';
import { openStore } from '../src/store.ts';
import { generateTypes } from './generate-types.ts';

await using store = await openStore('sqlite::memory:');
await store.migrate();
await writeFile(new URL('../src/schema.generated.ts', import.meta.url), await generateTypes(store));
