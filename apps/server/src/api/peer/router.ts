import { router } from '../trpc.ts';
import { activatePeerProcedure, deactivatePeerProcedure } from './activate.ts';
import { peerConfig } from './config.ts';
import { createPeerProcedure } from './create.ts';
import { createSelf } from './create-self.ts';
import { getPeer } from './get.ts';
import { listPeersProcedure } from './list.ts';
import { movePeerProcedure } from './move.ts';
import { peerQr } from './qr.ts';
import { removePeerProcedure } from './remove.ts';
import { rotatePeerProcedure } from './rotate.ts';
import { selfConfig } from './self-config.ts';
import { peerStatus } from './status.ts';
import { updatePeerProcedure } from './update.ts';

export const peerRouter = router({
  createSelf,
  selfConfig,
  create: createPeerProcedure,
  list: listPeersProcedure,
  get: getPeer,
  update: updatePeerProcedure,
  config: peerConfig,
  qr: peerQr,
  status: peerStatus,
  deactivate: deactivatePeerProcedure,
  activate: activatePeerProcedure,
  rotate: rotatePeerProcedure,
  move: movePeerProcedure,
  remove: removePeerProcedure,
});
