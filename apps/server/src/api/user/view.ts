import type { UserRow } from '@vpn-api/db';
import type { z } from 'zod';
import type { userSchema } from './schemas.ts';

export function userView(user: UserRow): z.output<typeof userSchema> {
  return {
    id: user.id,
    email: user.email,
    status: user.status,
    is_admin: user.role === 'admin',
    email_verified: user.email_verified_at !== null,
    telegram_id: user.telegram_id,
    created_at: user.created_at,
  };
}
