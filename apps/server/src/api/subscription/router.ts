import { router } from '../trpc.ts';
import { extendSubscriptionProcedure } from './extend.ts';
import { grantSubscriptionProcedure } from './grant.ts';
import { listSubscriptionsProcedure } from './list.ts';
import { revokeSubscription } from './revoke.ts';

export const subscriptionRouter = router({
  list: listSubscriptionsProcedure,
  grant: grantSubscriptionProcedure,
  extend: extendSubscriptionProcedure,
  revoke: revokeSubscription,
});
