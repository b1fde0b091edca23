import { router } from '../trpc.ts';
import { archiveTariffProcedure } from './archive.ts';
import { createTariffProcedure } from './create.ts';
import { getTariff } from './get.ts';
import { listTariffsProcedure } from './list.ts';
import { removeTariffProcedure } from './remove.ts';
import { updateTariffProcedure } from './update.ts';

export const tariffRouter = router({
  list: listTariffsProcedure,
  get: getTariff,
  create: createTariffProcedure,
  update: updateTariffProcedure,
  archive: archiveTariffProcedure,
  remove: removeTariffProcedure,
});
