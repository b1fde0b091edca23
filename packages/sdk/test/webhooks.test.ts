import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { type VerifyWebhookOptions, WebhookVerificationError, webhooks } from '../src/webhooks.ts';

/** The published vector of Standard Webhooks. */
const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const id = 'msg_p5jXN8AQM9LWM0D4loKWxJek';
const timestamp = 1_614_265_330;
const body = '{"test": 2432232314}';
const signature = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=';
const headers = { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signature };
const now = new Date(timestamp * 1000);
const otherSecret = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD';

type Changes = Omit<Partial<VerifyWebhookOptions>, 'secret' | 'secrets'>;

function verify(changes: Changes = {}) {
  return webhooks.verify({ secret, headers, body, now, ...changes });
}

function refusalOf(attempt: Promise<unknown>): Promise<unknown> {
  return attempt.then(
    () => 'accepted',
    (error: unknown) => (error instanceof WebhookVerificationError ? error.reason : error),
  );
}

describe('the published vector', () => {
  it('is what signing makes', async () => {
    expect(await webhooks.sign({ secret, id, timestamp, body })).toEqual(headers);
    expect(await webhooks.sign({ secret, id, timestamp: now, body: new TextEncoder().encode(body) })).toEqual(headers);
  });

  it('is accepted, with its id and time', async () => {
    expect(await verify()).toEqual({ id, timestamp: now });
  });

  it.each([
    ['bytes', new TextEncoder().encode(body)],
    ['a Buffer that is a view of a larger one', Buffer.from(`x${body}x`).subarray(1, -1)],
    ['an ArrayBuffer', new TextEncoder().encode(body).buffer],
  ])('is accepted as %s', async (_, bytes) => {
    expect(await verify({ body: bytes })).toMatchObject({ id });
  });

  it.each([
    ['Headers', new Headers(headers)],
    ['Node headers', { ...headers, host: 'x', 'set-cookie': ['a', 'b'] }],
    ['names in capitals', Object.fromEntries(Object.entries(headers).map(([k, v]) => [k.toUpperCase(), v]))],
    ['a list of one', { ...headers, 'webhook-id': [id] }],
  ])('is accepted with %s', async (_, given) => {
    expect(await verify({ headers: given })).toMatchObject({ id });
  });

  it('is accepted with a secret without its prefix', async () => {
    const bare = secret.slice('whsec_'.length);
    expect(await webhooks.verify({ secret: bare, headers, body, now })).toMatchObject({ id });
  });
});

describe('refusals', () => {
  it('refuses a changed body', async () => {
    expect(await refusalOf(verify({ body: body.replace('4', '5') }))).toBe('no_matching_signature');
  });

  it('refuses a body that was parsed and written again', async () => {
    expect(await refusalOf(verify({ body: JSON.stringify(JSON.parse(body)) }))).toBe('no_matching_signature');
  });

  it('refuses another secret', async () => {
    expect(await refusalOf(webhooks.verify({ secret: otherSecret, headers, body, now }))).toBe('no_matching_signature');
  });

  it.each(['webhook-id', 'webhook-timestamp', 'webhook-signature'])('refuses without %s', async (name) => {
    expect(await refusalOf(verify({ headers: { ...headers, [name]: undefined } }))).toBe('missing_header');
    expect(await refusalOf(verify({ headers: { ...headers, [name]: '' } }))).toBe('missing_header');
  });

  it('refuses two values for one header', async () => {
    expect(await refusalOf(verify({ headers: { ...headers, 'webhook-id': [id, 'other'] } }))).toBe('missing_header');
    expect(await refusalOf(verify({ headers: { ...headers, 'Webhook-Id': 'other' } }))).toBe('missing_header');
  });

  it.each([
    [-301, 'timestamp_too_new'],
    [-300, 'accepted'],
    [300, 'accepted'],
    [301, 'timestamp_too_old'],
  ])('with a clock %i seconds off: %s', async (offset, expected) => {
    expect(await refusalOf(verify({ now: new Date((timestamp + offset) * 1000) }))).toBe(expected);
  });

  it('takes another tolerance', async () => {
    const late = new Date((timestamp + 11) * 1000);
    expect(await refusalOf(verify({ now: late, toleranceSeconds: 10 }))).toBe('timestamp_too_old');
  });

  it.each(['soon', '1e9', '-5', '1614265330.5', ' 1614265330', '0x1', '9'.repeat(20)])(
    'refuses the timestamp %j',
    async (text) => {
      expect(await refusalOf(verify({ headers: { ...headers, 'webhook-timestamp': text } }))).toBe('invalid_timestamp');
    },
  );

  it.each([
    ['another version', signature.replace('v1', 'v2')],
    ['an asymmetric version', signature.replace('v1', 'v1a')],
    ['an empty signature', 'v1,'],
    ['a prefix of the signature', signature.slice(0, 20)],
    ['a longer signature', `${signature}A`],
    ['no version', signature.slice(3)],
    ['spaces', '   '],
  ])('refuses %s', async (_, given) => {
    expect(await refusalOf(verify({ headers: { ...headers, 'webhook-signature': given } }))).toBe(
      'no_matching_signature',
    );
  });

  it('refuses an id that a dot could stretch into the timestamp', async () => {
    const dotted = 'msg.1';
    const signed = new Webhook(secret).sign(dotted, now, body);
    const given = { ...headers, 'webhook-id': dotted, 'webhook-signature': signed };
    expect(await refusalOf(verify({ headers: given }))).toBe('invalid_id');
    await expect(webhooks.sign({ secret, id: dotted, body })).rejects.toThrow(TypeError);
  });

  it('never says in an error what the secret is', async () => {
    const error = await webhooks.sign({ secret: 'whsec_not base64!', body }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(TypeError);
    expect(String(error)).not.toContain('not base64!');
  });

  it.each(['', 'whsec_', 'whpk_abcd'])('refuses to work with the secret %j', async (broken) => {
    await expect(webhooks.verify({ secret: broken, headers, body, now })).rejects.toThrow(TypeError);
  });

  it('refuses to work without any secret', async () => {
    await expect(webhooks.verify({ secrets: [], headers, body, now })).rejects.toThrow(TypeError);
  });
});

describe('rotation', () => {
  it('accepts when any signature is right', async () => {
    const wrong = signature.replace('g0h', 'AAA');
    const given = { ...headers, 'webhook-signature': `${wrong} v2,xyz ${signature}` };
    expect(await verify({ headers: given })).toMatchObject({ id });
  });

  it('accepts any of our secrets', async () => {
    expect(await webhooks.verify({ secrets: [otherSecret, secret], headers, body, now })).toMatchObject({ id });
  });
});

describe('together with standardwebhooks', () => {
  const texts = ['{}', '', '{"name":"Ада 🛰"}', 'x'.repeat(65_536)];

  it.each(texts)('accepts what it signs, %#', async (text) => {
    const at = new Date();
    const signed = new Webhook(otherSecret).sign('msg_1', at, text);
    const given = {
      'webhook-id': 'msg_1',
      'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
      'webhook-signature': signed,
    };
    expect(await webhooks.verify({ secret: otherSecret, headers: given, body: text })).toMatchObject({ id: 'msg_1' });
  });

  it('signs what it accepts', async () => {
    const text = '{"type":"payment.completed","data":{"name":"Ада 🛰"}}';
    const signed = await webhooks.sign({ secret: otherSecret, body: text });
    expect(signed['webhook-id']).toMatch(/^msg_[0-9a-f-]{36}$/);
    expect(new Webhook(otherSecret).verify(text, { ...signed })).toEqual(JSON.parse(text));
  });
});

describe('an event of the server', () => {
  const event = {
    type: 'subscription.expiring',
    timestamp: '2026-11-22T12:00:00.000Z',
    data: {
      user_id: 5,
      tariff_id: 1,
      period_id: 9,
      starts_at: '2026-10-23T12:00:00.000Z',
      ends_at: null,
      source: 'trial',
    },
  };

  async function unwrap(text: string) {
    const signed = await webhooks.sign({ secret, id, body: text, timestamp });
    return webhooks.unwrap({ secret, headers: { ...signed }, body: text, now });
  }

  it('is read with its id, and its type says what it holds', async () => {
    const read = await unwrap(JSON.stringify(event));
    expect(read).toEqual({ id, ...event });
    if (read.type !== 'subscription.expiring') throw new Error('another type');
    // Compiles only because the type is known now.
    expect(read.data.ends_at).toBeNull();
  });

  it('is not read when its signature is wrong', async () => {
    const text = JSON.stringify(event);
    const signed = await webhooks.sign({ secret: otherSecret, id, body: text, timestamp });
    const reason = refusalOf(webhooks.unwrap({ secret, headers: { ...signed }, body: text, now }));
    expect(await reason).toBe('no_matching_signature');
  });

  it.each(['[]', '{"type":1}', '{"type":"a","timestamp":"b"}', 'null'])('is not made of %s', async (text) => {
    await expect(unwrap(text)).rejects.toThrow(TypeError);
  });
});
