import { router } from '../trpc.ts';
import { systemHealth } from './health.ts';
import { systemReady } from './ready.ts';
import { systemRoot } from './root.ts';

export const systemRouter = router({ root: systemRoot, health: systemHealth, ready: systemReady });
