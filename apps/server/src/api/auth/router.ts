import { router } from '../trpc.ts';
import { assignTariff } from './assign-tariff.ts';
import { changePasswordProcedure } from './change-password.ts';
import { demote } from './demote.ts';
import { loginProcedure } from './login.ts';
import { logoutProcedure } from './logout.ts';
import { me } from './me.ts';
import { promote } from './promote.ts';
import { refresh } from './refresh.ts';
import { register } from './register.ts';
import { revokeSessionProcedure } from './revoke-session.ts';
import { sessions } from './sessions.ts';
import { subscribe } from './subscribe.ts';
import { subscription } from './subscription.ts';

export const authRouter = router({
  register,
  login: loginProcedure,
  refresh,
  logout: logoutProcedure,
  me,
  subscription,
  promote,
  demote,
  assignTariff,
  changePassword: changePasswordProcedure,
  sessions,
  revokeSession: revokeSessionProcedure,
  subscribe,
});
