import { listPeersForUser } from '@vpn-api/db';
import { z } from 'zod';
import { subscriptionView } from '../../domain/subscription.ts';
import { hastenLookedAt } from '../../ops/hasten-poll.ts';
import { judgePeers } from '../../ops/peer-access.ts';
import { loadChain } from '../../ops/subscription-chain.ts';
import { id } from '../fields.ts';
import { peerSchema } from '../peer/schemas.ts';
import { peerView } from '../peer/view.ts';
import { subscriptionSchema } from '../subscription/schemas.ts';
import { accountProcedure } from '../trpc.ts';
import { getVisiblePayment } from './find-visible.ts';
import { paymentShape } from './schemas.ts';
import { paymentView } from './view.ts';

const settled = new Set(['completed', 'partially_refunded']);

/** What a page polls after the checkout: the payment, and once it is paid, what it bought. */
export const paymentStatusProcedure = accountProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/payments/status/{payment_id}',
      tags: ['payment'],
      summary: 'A payment and, once completed, what it bought',
      protect: true,
    },
    scope: 'payments:read',
  })
  .input(z.strictObject({ payment_id: id }))
  .output(z.object({ ...paymentShape, subscription: subscriptionSchema.nullable(), peers: z.array(peerSchema) }))
  .query(async ({ ctx, input }) => {
    const { store, clock, providers } = ctx.services;
    const payment = await getVisiblePayment(store, ctx.caller, input.payment_id);
    await hastenLookedAt(ctx.services, payment);
    const view = paymentView(payment, providers);
    if (!settled.has(payment.status)) return { ...view, subscription: null, peers: [] };
    const now = clock.now();
    const chain = await loadChain(store, payment.user_id);
    const peers = await judgePeers(store, await listPeersForUser(store, payment.user_id), now);
    return { ...view, subscription: subscriptionView(chain, now), peers: peers.map(peerView) };
  });
