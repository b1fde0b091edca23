import { router } from '../trpc.ts';
import { attachEventProcedure } from './attach-event.ts';
import { createPaymentProcedure } from './create.ts';
import { listPaymentEvents } from './events.ts';
import { forbiddenRemove, forbiddenUpdate } from './forbidden.ts';
import { getPayment } from './get.ts';
import { listPaymentsProcedure } from './list.ts';
import { listProviders } from './providers.ts';
import { quotePaymentProcedure } from './quote.ts';
import { refundPaymentProcedure } from './refund.ts';
import { resolvePaymentProcedure } from './resolve.ts';
import { paymentStatusProcedure } from './status.ts';
import { paymentWebhook } from './webhook.ts';

export const paymentRouter = router({
  providers: listProviders,
  quote: quotePaymentProcedure,
  create: createPaymentProcedure,
  list: listPaymentsProcedure,
  get: getPayment,
  status: paymentStatusProcedure,
  webhook: paymentWebhook,
  refund: refundPaymentProcedure,
  resolve: resolvePaymentProcedure,
  events: listPaymentEvents,
  attachEvent: attachEventProcedure,
  update: forbiddenUpdate,
  remove: forbiddenRemove,
});
