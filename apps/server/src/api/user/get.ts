import { findUserById } from '@vpn-api/db';
import { DomainError } from '../../domain/errors.ts';
import { adminProcedure } from '../trpc.ts';
import { userId, userSchema } from './schemas.ts';
import { userView } from './view.ts';

export const getUser = adminProcedure
  .meta({
    openapi: { method: 'GET', path: '/users/{id}', tags: ['user'], summary: 'Read one user', protect: true },
    scope: 'users:read',
  })
  .input(userId)
  .output(userSchema)
  .query(async ({ ctx, input }) => {
    const user = await findUserById(ctx.services.store, input.id);
    if (user === undefined || user.removed_at !== null) throw new DomainError('user_not_found');
    return userView(user);
  });
