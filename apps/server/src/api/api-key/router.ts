import { router } from '../trpc.ts';
import { createApiKeyProcedure } from './create.ts';
import { listApiKeysProcedure } from './list.ts';
import { revokeApiKeyProcedure } from './revoke.ts';

export const apiKeyRouter = router({
  create: createApiKeyProcedure,
  list: listApiKeysProcedure,
  revoke: revokeApiKeyProcedure,
});
