import { router } from '../trpc.ts';
import { createWebhookEndpointProcedure } from './create.ts';
import { listDeliveriesProcedure } from './deliveries.ts';
import { getWebhookEndpointProcedure } from './get.ts';
import { listWebhookEndpointsProcedure } from './list.ts';
import { redeliverProcedure } from './redeliver.ts';
import { removeWebhookEndpointProcedure } from './remove.ts';
import { rotateSecretProcedure } from './rotate-secret.ts';
import { updateWebhookEndpointProcedure } from './update.ts';

export const webhookEndpointRouter = router({
  create: createWebhookEndpointProcedure,
  list: listWebhookEndpointsProcedure,
  get: getWebhookEndpointProcedure,
  update: updateWebhookEndpointProcedure,
  remove: removeWebhookEndpointProcedure,
  rotateSecret: rotateSecretProcedure,
  deliveries: listDeliveriesProcedure,
  redeliver: redeliverProcedure,
});
