import { apiKeyRouter } from './api-key/router.ts';
import { auditRouter } from './audit/router.ts';
import { authRouter } from './auth/router.ts';
import { eventRouter } from './event/router.ts';
import { paymentRouter } from './payment/router.ts';
import { peerRouter } from './peer/router.ts';
import { serverRouter } from './server/router.ts';
import { subscriptionRouter } from './subscription/router.ts';
import { systemRouter } from './system/router.ts';
import { tariffRouter } from './tariff/router.ts';
import { router } from './trpc.ts';
import { userRouter } from './user/router.ts';
import { webhookEndpointRouter } from './webhook-endpoint/router.ts';

/** Every procedure, for both transports. Clients take its type; no schema leaves from here. */
export const appRouter = router({
  system: systemRouter,
  auth: authRouter,
  user: userRouter,
  apiKey: apiKeyRouter,
  tariff: tariffRouter,
  subscription: subscriptionRouter,
  peer: peerRouter,
  payment: paymentRouter,
  server: serverRouter,
  event: eventRouter,
  webhookEndpoint: webhookEndpointRouter,
  audit: auditRouter,
});

export type AppRouter = typeof appRouter;
export type { ErrorCode, ErrorIssue } from '../domain/errors.ts';
export type { EventData, EventType } from '../domain/events.ts';
export type { Problem } from './problem.ts';
