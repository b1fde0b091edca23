import { router } from '../trpc.ts';
import { blockUserProcedure } from './block.ts';
import { ensureUserProcedure } from './ensure.ts';
import { getUser } from './get.ts';
import { listUsersProcedure } from './list.ts';
import { removeUserProcedure } from './remove.ts';
import { revokeSessions } from './revoke-sessions.ts';
import { userState } from './state.ts';
import { unblockUserProcedure } from './unblock.ts';
import { updateUserProcedure } from './update.ts';

export const userRouter = router({
  list: listUsersProcedure,
  get: getUser,
  ensure: ensureUserProcedure,
  block: blockUserProcedure,
  unblock: unblockUserProcedure,
  remove: removeUserProcedure,
  revokeSessions,
  update: updateUserProcedure,
  state: userState,
});
