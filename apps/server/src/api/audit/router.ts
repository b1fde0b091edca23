import { router } from '../trpc.ts';
import { listAuditProcedure } from './list.ts';

export const auditRouter = router({ list: listAuditProcedure });
