import type { PaymentRow } from '@vpn-api/db';
import { z } from 'zod';
import { loadUserState } from '../../ops/user-state.ts';
import { ownerFor } from '../actor.ts';
import { instant } from '../fields.ts';
import { paymentSchema } from '../payment/schemas.ts';
import { paymentView } from '../payment/view.ts';
import { peerSchema, peerStatusSchema } from '../peer/schemas.ts';
import { peerStatusView, peerView } from '../peer/view.ts';
import { subscriptionSchema } from '../subscription/schemas.ts';
import { accountProcedure } from '../trpc.ts';
import { userId, userSchema } from './schemas.ts';
import { userView } from './view.ts';

const userStateSchema = z.object({
  user: userSchema,
  subscription: subscriptionSchema.nullable(),
  device_limit: z.int(),
  devices_used: z.int(),
  /** End of the whole chain; null without a subscription and for a lifetime. */
  paid_until: instant.nullable(),
  peers: z.array(z.object({ ...peerSchema.shape, status: peerStatusSchema })),
  open_payment: paymentSchema.nullable(),
  last_payment: paymentSchema.nullable(),
});

export const userState = accountProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/users/{id}/state',
      tags: ['user'],
      summary: 'Everything a bot shows of a user, in one call',
      protect: true,
    },
    scope: 'users:read',
  })
  .input(userId)
  .output(userStateSchema)
  .query(async ({ ctx, input }) => {
    const { providers } = ctx.services;
    const state = await loadUserState(ctx.services, ownerFor(ctx.caller, input.id) ?? input.id);
    const payment = (row: PaymentRow | undefined) => (row === undefined ? null : paymentView(row, providers));
    return {
      user: userView(state.user),
      subscription: state.subscription,
      device_limit: state.deviceLimit,
      devices_used: state.peers.length,
      paid_until: state.subscription?.ended_at ?? null,
      peers: state.peers.map((peer) => ({ ...peerView(peer), status: peerStatusView(peer) })),
      open_payment: payment(state.openPayment),
      last_payment: payment(state.lastPayment),
    };
  });
