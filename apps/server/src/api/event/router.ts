import { router } from '../trpc.ts';
import { listEventsProcedure } from './list.ts';

export const eventRouter = router({ list: listEventsProcedure });
