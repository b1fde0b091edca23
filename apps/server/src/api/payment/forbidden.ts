import { z } from 'zod';
import { DomainError } from '../../domain/errors.ts';
import { id } from '../fields.ts';
import { publicProcedure } from '../trpc.ts';
import { paymentSchema } from './schemas.ts';

const input = z.strictObject({ payment_id: id });
const oldBodyKeys = ['user_id', 'amount', 'currency', 'provider', 'status', 'provider_payment_id'];

/**
 * The service that this one replaces let an owner edit and delete payments. The routes stay, so that its clients get a
 * clear no: a payment changes by its provider's events and by `payment.resolve` only.
 */
export const forbiddenUpdate = publicProcedure
  .meta({
    openapi: {
      method: 'PUT',
      path: '/payments/{payment_id}',
      tags: ['payment'],
      summary: 'Refused for everybody',
      protect: true,
    },
    rest: { legacyKeys: oldBodyKeys },
  })
  .input(input)
  .output(paymentSchema)
  .mutation(() => {
    throw new DomainError('not_allowed');
  });

export const forbiddenRemove = publicProcedure
  .meta({
    openapi: {
      method: 'DELETE',
      path: '/payments/{payment_id}',
      tags: ['payment'],
      summary: 'Refused for everybody',
      protect: true,
    },
  })
  .input(input)
  .output(z.object({ msg: z.string() }))
  .mutation(() => {
    throw new DomainError('not_allowed');
  });
