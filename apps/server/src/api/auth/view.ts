import type { LiveFamily } from '@vpn-api/db';
import type { z } from 'zod';
import type { Client, IssuedTokens } from '../../ops/issue-tokens.ts';
import type { Context } from '../context.ts';
import type { sessionSchema, tokensSchema } from './schemas.ts';

export function tokensView(tokens: IssuedTokens): z.output<typeof tokensSchema> {
  return {
    access_token: tokens.accessToken,
    token_type: 'bearer',
    expires_in: tokens.expiresInSeconds,
    refresh_token: tokens.refreshToken,
    refresh_expires_in: tokens.refreshExpiresInSeconds,
  };
}

export function sessionView(login: LiveFamily, currentId: number): z.output<typeof sessionSchema> {
  const { id, created_at, refreshed_at, expires_at, user_agent, ip } = login;
  return { id, created_at, refreshed_at, expires_at, user_agent, ip, current: id === currentId };
}

/** Where a call comes from, for the list of sessions. */
export function clientOf({ request }: Context): Client {
  return { ip: request.ip, userAgent: request.userAgent };
}
