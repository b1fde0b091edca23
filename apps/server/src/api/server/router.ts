import { router } from '../trpc.ts';
import { applyServerProcedure } from './apply.ts';
import { createServerProcedure } from './create.ts';
import {
  drainServerProcedure,
  retireServerProcedure,
  undrainServerProcedure,
  unretireServerProcedure,
} from './drain.ts';
import { evacuateServerProcedure } from './evacuate.ts';
import { getServerProcedure } from './get.ts';
import { listServersProcedure } from './list.ts';
import { planServerProcedure } from './plan.ts';
import { removeServerProcedure } from './remove.ts';
import { testServerProcedure } from './test.ts';
import { updateServerProcedure } from './update.ts';

export const serverRouter = router({
  create: createServerProcedure,
  list: listServersProcedure,
  get: getServerProcedure,
  update: updateServerProcedure,
  remove: removeServerProcedure,
  plan: planServerProcedure,
  // tRPC keeps the name `apply` for itself.
  applyPlan: applyServerProcedure,
  test: testServerProcedure,
  drain: drainServerProcedure,
  undrain: undrainServerProcedure,
  evacuate: evacuateServerProcedure,
  retire: retireServerProcedure,
  unretire: unretireServerProcedure,
});
