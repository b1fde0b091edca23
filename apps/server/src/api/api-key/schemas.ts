import { z } from 'zod';
import { scopes } from '../actor.ts';
import { id, instant } from '../fields.ts';

export const scope = z.enum(scopes);

const apiKeyShape = {
  id,
  name: z.string(),
  hint: z.string(),
  scopes: z.array(z.string()),
  created_by: id.nullable(),
  created_at: instant,
  expires_at: instant.nullable(),
  last_used_at: instant.nullable(),
  revoked_at: instant.nullable(),
} as const;

/** `ApiKey` on the wire; `hint` is how the key begins, to recognise it by. */
export const apiKeySchema = z.object(apiKeyShape);

/** The one answer that shows the key. */
export const createdApiKeySchema = z.object({ ...apiKeyShape, key: z.string() });
