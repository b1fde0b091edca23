import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The top of the checkout, wherever the command was started. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
