/**
 * A moment as text, always `YYYY-MM-DDTHH:mm:ss.sssZ`: what the database holds and what the wire carries. In this one
 * form the order of the texts is the order of the moments, so `<` compares. Years are 0001 to 9999.
 *
 * Functions here take `string`, so that a row's column can be passed as it is; a text in another form is a bug of the
 * caller and throws a RangeError. Use `parseInstant` for text from outside.
 */
export type Instant = string & { readonly __instant: unique symbol };

/** A day of a subscription is 86 400 s, whatever the calendar says. */
export const DAY_SECONDS = 86_400;

/** The last moment the text form can say. Sums stop here, so a very long chain of periods stays a valid row. */
export const LAST_INSTANT = '9999-12-31T23:59:59.999Z' as Instant;
const FIRST_INSTANT = '0001-01-01T00:00:00.000Z' as Instant;

const LAST_MS = Date.parse(LAST_INSTANT);
const FIRST_MS = Date.parse(FIRST_INSTANT);

const CANONICAL = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;
const RFC3339 = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/;

/** Milliseconds since 1970 as an instant. Throws a RangeError for fractions and for years outside 0001 to 9999. */
export function toInstant(epochMilliseconds: number): Instant {
  if (!Number.isInteger(epochMilliseconds) || epochMilliseconds < FIRST_MS || epochMilliseconds > LAST_MS) {
    throw new RangeError(`not a moment between the years 1 and 9999: ${epochMilliseconds}`);
  }
  return new Date(epochMilliseconds).toISOString() as Instant;
}

/**
 * Reads RFC 3339 text with a zone (`2026-11-22T15:00:00+03:00`) from outside. Digits after the millisecond are dropped.
 * Answers undefined for anything else, for days no calendar has and for leap seconds.
 */
export function parseInstant(text: string): Instant | undefined {
  const parts = RFC3339.exec(text);
  if (parts === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction = '', sign, zoneHour = '0', zoneMinute = '0'] = parts;
  const wall = `${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.padEnd(3, '0').slice(0, 3)}Z`;
  const wallMs = Date.parse(wall);
  // Date.parse turns 30 February into 2 March and 24:00 into the next day; only what prints back unchanged was a real time.
  if (Number.isNaN(wallMs) || new Date(wallMs).toISOString() !== wall) return undefined;
  if (Number(zoneHour) > 23 || Number(zoneMinute) > 59) return undefined;
  const offsetMs = (Number(zoneHour) * 60 + Number(zoneMinute)) * 60_000;
  const epoch = sign === '-' ? wallMs + offsetMs : wallMs - offsetMs;
  return epoch < FIRST_MS || epoch > LAST_MS ? undefined : toInstant(epoch);
}

/** Milliseconds since 1970. */
export function epochMs(instant: string): number {
  const epoch = CANONICAL.test(instant) ? Date.parse(instant) : Number.NaN;
  if (Number.isNaN(epoch)) throw new RangeError('not an instant in the stored form');
  return epoch;
}

/** The moment `seconds` later (earlier when negative), to the millisecond; never past `LAST_INSTANT`. */
export function addSeconds(instant: string, seconds: number): Instant {
  const sum = epochMs(instant) + Math.round(seconds * 1000);
  if (Number.isNaN(sum)) throw new RangeError('seconds must be a number');
  return toInstant(Math.min(LAST_MS, Math.max(FIRST_MS, sum)));
}

/** Seconds from `from` to `to`, with milliseconds as the fraction; negative when `to` is earlier. */
export function secondsBetween(from: string, to: string): number {
  return (epochMs(to) - epochMs(from)) / 1000;
}

/** The later of two. */
export function maxInstant(a: string, b: string): Instant {
  return epochMs(a) >= epochMs(b) ? (a as Instant) : (b as Instant);
}

/** The earlier of two. */
export function minInstant(a: string, b: string): Instant {
  return epochMs(a) <= epochMs(b) ? (a as Instant) : (b as Instant);
}
