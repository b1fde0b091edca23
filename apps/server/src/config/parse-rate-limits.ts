import type { RateLimit } from '../http/rate-limit.ts';
import { Refusal } from './parse.ts';

export const rateLimitNames = ['auth', 'default'] as const;
export type RateLimitName = (typeof rateLimitNames)[number];

const windowSeconds: Readonly<Record<string, number>> = { s: 1, sec: 1, min: 60, h: 3600, hour: 3600 };
const MAX_CALLS = 1_000_000;

const defaults: Readonly<Record<RateLimitName, RateLimit>> = {
  auth: { calls: 10, windowSeconds: 60 },
  default: { calls: 600, windowSeconds: 60 },
};

export function defaultRateLimits(): ReadonlyMap<string, RateLimit> {
  return new Map(Object.entries(defaults));
}

/**
 * `auth=10/min,default=600/min`. A name that is left out keeps its default; `auth=0` switches one off, `0` all.
 * @throws Refusal
 */
export function parseRateLimits(text: string): ReadonlyMap<string, RateLimit> {
  if (text === '0') return new Map(rateLimitNames.map((name) => [name, { calls: 0, windowSeconds: 60 }]));
  const given = text.split(',').map((part) => parseRateLimit(part.trim()));
  if (new Map(given).size !== given.length) throw new Refusal('names the same limit twice');
  return new Map([...defaultRateLimits(), ...given]);
}

function parseRateLimit(text: string): [RateLimitName, RateLimit] {
  const [, name = '', calls = '', unit = ''] = /^([a-z_]+)=(\d{1,7})(?:\/([a-z]+))?$/.exec(text) ?? [];
  const known = rateLimitNames.find((candidate) => candidate === name);
  if (known === undefined) throw new Refusal(`must be name=calls/unit with the names ${rateLimitNames.join(' and ')}`);
  if (Number(calls) === 0) return [known, { calls: 0, windowSeconds: 60 }];
  const seconds = Object.hasOwn(windowSeconds, unit) ? windowSeconds[unit] : undefined;
  if (seconds === undefined || Number(calls) > MAX_CALLS) {
    throw new Refusal(`must count calls (at most ${MAX_CALLS}) per s, min or hour; 0 switches a limit off`);
  }
  return [known, { calls: Number(calls), windowSeconds: seconds }];
}
