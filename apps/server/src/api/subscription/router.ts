import { router } from '../trpc.ts';
import { extendSubscriptionProcedure } from './extend.ts';
import { grantSubscriptionProcedure } from './grant.ts';
import { listSubscriptionsProcedure } from './list.ts';
import { revokeSubscription } from './revoke.ts';
import { startTrialProcedure } from './start-trial.ts';

export const subscriptionRouter = router({
  list: listSubscriptionsProcedure,
  grant: grantSubscriptionProcedure,
  startTrial: startTrialProcedure,
  extend: extendSubscriptionProcedure,
  revoke: revokeSubscription,
});
