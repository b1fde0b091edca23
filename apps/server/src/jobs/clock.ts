import { epochMs, toInstant } from '../domain/instant.ts';
import type { Clock } from '../services.ts';

/** Timers count in 32 bits; a longer wait is split, and the wake-up in between is harmless. */
const MAX_TIMER_MS = 2_147_483_647;

/** The time of the machine. Timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => toInstant(Date.now()),
  at: (time, callback) => {
    const waitMs = Math.min(MAX_TIMER_MS, Math.max(0, epochMs(time) - Date.now()));
    const timer = setTimeout(callback, waitMs).unref();
    return () => clearTimeout(timer);
  },
};
