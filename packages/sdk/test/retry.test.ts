import { describe, expect, it } from 'vitest';
import { VpnApiError, type VpnApiErrorCode } from '../src/errors.ts';
import { type Repeatability, retryDelayMs } from '../src/retry.ts';

const policy = { retries: 5, baseDelayMs: 100, maxDelayMs: 1_000, random: () => 0 };
const busy = new VpnApiError({ code: 'unavailable', message: 'x', status: 503 });

function delay(error: VpnApiError, repeatability: Repeatability = 'harmless', repeats = 0, random = 0) {
  return retryDelayMs({ error, repeats, repeatability }, { ...policy, random: () => random });
}

describe('pauses', () => {
  it('double up to the limit, and never shrink below half', () => {
    expect([0, 1, 2, 3, 4].map((repeats) => delay(busy, 'harmless', repeats))).toEqual([50, 100, 200, 400, 500]);
    expect([0, 1, 2, 3, 4].map((repeats) => delay(busy, 'harmless', repeats, 0.999_999))).toEqual(
      [100, 200, 400, 800, 1_000].map((full) => expect.closeTo(full, 0)),
    );
  });

  it('are at least what the server asks for', () => {
    const asked = new VpnApiError({ code: 'rate_limited', message: 'x', status: 429, retryAfterSeconds: 1 });
    expect(delay(asked)).toBe(1_000);
  });

  it('end after the last repeat', () => {
    expect(delay(busy, 'harmless', 5)).toBeUndefined();
  });
});

describe('what is repeated', () => {
  const cases: [VpnApiErrorCode, number | undefined, Record<Repeatability, boolean>][] = [
    ['network_error', undefined, { harmless: true, keyed: true, unsafe: false }],
    ['timeout', undefined, { harmless: true, keyed: true, unsafe: false }],
    ['unavailable', 503, { harmless: true, keyed: true, unsafe: false }],
    ['host_refused', 502, { harmless: true, keyed: true, unsafe: false }],
    ['rate_limited', 429, { harmless: true, keyed: true, unsafe: false }],
    ['idempotency_in_progress', 409, { harmless: false, keyed: true, unsafe: false }],
    ['internal_error', 500, { harmless: false, keyed: false, unsafe: false }],
    ['validation_failed', 400, { harmless: false, keyed: false, unsafe: false }],
    ['aborted', undefined, { harmless: false, keyed: false, unsafe: false }],
    ['invalid_response', 200, { harmless: false, keyed: false, unsafe: false }],
  ];

  it.each(cases)('%s %s', (code, status, expected) => {
    const error = new VpnApiError({ code, message: 'x', status });
    for (const [repeatability, repeated] of Object.entries(expected)) {
      expect([repeatability, delay(error, repeatability as Repeatability) !== undefined]).toEqual([
        repeatability,
        repeated,
      ]);
    }
  });

  it.each(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT'])(
    'an unsafe mutation after %s, since nothing was sent',
    (code) => {
      const socket = Object.assign(new Error('x'), { code });
      const cause = new TypeError('fetch failed', { cause: socket });
      expect(delay(new VpnApiError({ code: 'network_error', message: 'x', cause }), 'unsafe')).toBeDefined();
    },
  );

  it.each(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'UND_ERR_HEADERS_TIMEOUT'])(
    'but never after %s, since the server may have acted',
    (code) => {
      const cause = new TypeError('fetch failed', { cause: Object.assign(new Error('x'), { code }) });
      expect(delay(new VpnApiError({ code: 'network_error', message: 'x', cause }), 'unsafe')).toBeUndefined();
    },
  );
});
