import type { ApiKeyRow } from '@vpn-api/db';
import type { z } from 'zod';
import type { apiKeySchema } from './schemas.ts';

export function apiKeyView(row: ApiKeyRow): z.output<typeof apiKeySchema> {
  const { id, name, hint, created_by, created_at, expires_at, last_used_at, revoked_at } = row;
  return { id, name, hint, scopes: [...row.scopes], created_by, created_at, expires_at, last_used_at, revoked_at };
}
