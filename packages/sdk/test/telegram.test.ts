import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import {
  forwardTelegramPayments,
  isPaymentUpdate,
  type TelegramForwardingOptions,
  telegramPayments,
} from '../src/telegram.ts';
import { failureOf } from './fixtures/client.ts';

const secret = 'Secret_of-the-webhook';
const preCheckout = {
  update_id: 1,
  pre_checkout_query: { id: '42', from: { id: 7, first_name: 'Аня 🌍' }, currency: 'XTR', total_amount: 100 },
};
const paid = {
  update_id: 2,
  message: {
    message_id: 5,
    successful_payment: { currency: 'XTR', total_amount: 100, telegram_payment_charge_id: 'c1' },
  },
};
const refunded = { update_id: 3, message: { message_id: 6, refunded_payment: { currency: 'XTR', total_amount: 100 } } };
const text = { update_id: 4, message: { message_id: 7, text: 'successful_payment' } };

/** What happens to one request, in the order they arrive; after the last of them everything is taken. */
type Answer = 'take' | 'drop' | 'hang' | 'break-after-status' | Refusal;

interface Refusal {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

interface SeenDelivery {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

async function startWebhook(...answers: Answer[]) {
  const seen: SeenDelivery[] = [];
  const server = createServer(async (req, res) => {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk);
    seen.push({ method: req.method, url: req.url, headers: req.headers, body: Buffer.concat(chunks).toString() });
    give(answers.shift() ?? 'take', res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const stop = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { baseUrl: `http://127.0.0.1:${port}`, seen, [Symbol.asyncDispose]: stop };
}

function give(answer: Answer, res: ServerResponse): void {
  if (answer === 'hang') return;
  if (answer === 'drop') {
    res.socket?.destroy();
  } else if (answer === 'take') {
    res.writeHead(200, { 'content-type': 'application/json' }).end('{"received":true,"result":"ignored"}');
  } else if (answer === 'break-after-status') {
    res.writeHead(200, { 'content-length': '100' }).write('{', () => res.socket?.destroy());
  } else {
    res.writeHead(answer.status, answer.headers).end(answer.body);
  }
}

function problem(status: number, code: string, headers: Record<string, string> = {}): Refusal {
  const body = JSON.stringify({ status, code, detail: `It is ${code}`, request_id: 'req_1' });
  return { status, headers: { 'content-type': 'application/problem+json; charset=utf-8', ...headers }, body };
}

/** Pauses of a millisecond. */
function optionsFor(baseUrl: string, changes: Partial<TelegramForwardingOptions> = {}): TelegramForwardingOptions {
  return { baseUrl, secret, baseDelayMs: 1, ...changes };
}

function forwarder(baseUrl: string, changes: Partial<TelegramForwardingOptions> = {}) {
  return forwardTelegramPayments(optionsFor(baseUrl, changes));
}

/** What a configuration is refused with. */
function refusalOf(make: () => unknown): unknown {
  try {
    return make();
  } catch (error) {
    return error;
  }
}

describe('an update about payments', () => {
  it.each([
    ['a pre-checkout query', preCheckout, true],
    ['a payment', paid, true],
    ['a refund', refunded, true],
    ['a text', text, false],
    ['a payment in an edited message', { edited_message: paid.message }, false],
    ['an empty question', { pre_checkout_query: null }, false],
    ['an empty message', { message: null }, false],
    ['nothing', undefined, false],
    ['null', null, false],
    ['a string', 'pre_checkout_query', false],
  ])('%s: %s', (_, update, expected) => {
    expect(isPaymentUpdate(update)).toBe(expected);
  });
});

describe('forwarding', () => {
  it.each([preCheckout, paid, refunded])('brings the update as it is, with the secret: %#', async (update) => {
    await using webhook = await startWebhook();
    expect(await forwarder(webhook.baseUrl)(update)).toBe(true);
    expect(webhook.seen).toEqual([
      {
        method: 'POST',
        url: '/payments/webhook/telegram_stars',
        headers: expect.objectContaining({
          'content-type': 'application/json',
          'x-telegram-bot-api-secret-token': secret,
        }),
        body: JSON.stringify(update),
      },
    ]);
  });

  it('makes no call for anything else', async () => {
    await using webhook = await startWebhook();
    expect(await forwarder(webhook.baseUrl)(text)).toBe(false);
    expect(await forwarder(webhook.baseUrl)(undefined)).toBe(false);
    expect(webhook.seen).toEqual([]);
  });

  it.each(['', '/', '/vpn', '/vpn/', '/vpn//', '/vpn?secret=1#top'])('joins the path to a base of %j', async (base) => {
    await using webhook = await startWebhook();
    await forwarder(`${webhook.baseUrl}${base}`)(paid);
    const prefix = base.startsWith('/vpn') ? '/vpn' : '';
    expect(webhook.seen.map(({ url }) => url)).toEqual([`${prefix}/payments/webhook/telegram_stars`]);
  });

  it('takes any 2xx for taken, also when the rest of the answer is lost', async () => {
    await using webhook = await startWebhook({ status: 204 }, 'break-after-status');
    const forward = forwarder(webhook.baseUrl);
    expect([await forward(paid), await forward(paid)]).toEqual([true, true]);
    expect(webhook.seen).toHaveLength(2);
  });

  it('uses the fetch it is given', async () => {
    const urls: unknown[] = [];
    const fetch: typeof globalThis.fetch = async (url) => {
      urls.push(url);
      return new Response('{}');
    };
    await forwarder('https://vpn.example.com', { fetch })(paid);
    expect(urls).toEqual(['https://vpn.example.com/payments/webhook/telegram_stars']);
  });
});

describe('repeats', () => {
  it.each([
    ['a dropped connection', 'drop'],
    ['429', problem(429, 'rate_limited')],
    ['500', problem(500, 'internal_error')],
    ['502 of a proxy', { status: 502, body: '<h1>Bad gateway</h1>' }],
    ['503', problem(503, 'provider_unavailable')],
  ] satisfies [string, Answer][])('come after %s, with the same body', async (_, fault) => {
    await using webhook = await startWebhook(fault, fault, 'take');
    expect(await forwarder(webhook.baseUrl)(preCheckout)).toBe(true);
    expect(webhook.seen.map(({ body }) => body)).toEqual(Array(3).fill(JSON.stringify(preCheckout)));
  });

  it('come after an attempt without answer', async () => {
    await using webhook = await startWebhook('hang', 'take');
    expect(await forwarder(webhook.baseUrl, { timeoutMs: 300 })(paid)).toBe(true);
    expect(webhook.seen).toHaveLength(2);
  });

  it('leave a second attempt within the budget, however long one may take', async () => {
    await using webhook = await startWebhook('hang', 'take');
    const changes = { timeoutMs: 60_000, preCheckoutBudgetMs: 1_000 };
    expect(await forwarder(webhook.baseUrl, changes)(preCheckout)).toBe(true);
    expect(webhook.seen).toHaveLength(2);
  });

  it('come no sooner than the server asks', async () => {
    await using webhook = await startWebhook(problem(503, 'provider_unavailable', { 'retry-after': '1' }), 'take');
    const startedAt = performance.now();
    expect(await forwarder(webhook.baseUrl)(preCheckout)).toBe(true);
    expect(performance.now() - startedAt).toBeGreaterThan(990);
  });

  it('end at once when the server asks to wait past the budget', async () => {
    await using webhook = await startWebhook(problem(503, 'provider_unavailable', { 'retry-after': '10' }));
    const error = await failureOf(forwarder(webhook.baseUrl)(preCheckout));
    expect(error).toMatchObject({
      code: 'provider_unavailable',
      status: 503,
      retryAfterSeconds: 10,
      requestId: 'req_1',
    });
    expect(webhook.seen).toHaveLength(1);
  });

  it.each([
    ['a pre-checkout query', preCheckout, { preCheckoutBudgetMs: 150 }],
    ['a payment', paid, { paymentBudgetMs: 150 }],
    ['a refund', refunded, { paymentBudgetMs: 150 }],
  ])('end with the budget of %s', async (_, update, budget) => {
    await using webhook = await startWebhook(...Array<Answer>(1_000).fill(problem(503, 'unavailable')));
    const startedAt = performance.now();
    const error = await failureOf(forwarder(webhook.baseUrl, { ...budget, baseDelayMs: 10 })(update));
    expect(error).toMatchObject({ code: 'unavailable', status: 503 });
    // The other budget, by default, is seconds.
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect(webhook.seen.length).toBeGreaterThan(1);
  });

  it('end within the budget when nothing answers', async () => {
    await using webhook = await startWebhook('hang', 'hang', 'hang');
    const startedAt = performance.now();
    const error = await failureOf(forwarder(webhook.baseUrl, { preCheckoutBudgetMs: 500 })(preCheckout));
    expect(error.code).toBe('timeout');
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect(webhook.seen).toHaveLength(2);
  });

  it('end with the signal, also during a pause', async () => {
    await using webhook = await startWebhook(problem(503, 'unavailable', { 'retry-after': '30' }));
    const controller = new AbortController();
    const forwarded = forwarder(webhook.baseUrl, { signal: controller.signal })(paid);
    await expect.poll(() => webhook.seen.length).toBe(1);
    controller.abort();
    expect((await failureOf(forwarded)).code).toBe('aborted');
    expect(webhook.seen).toHaveLength(1);
  });
});

describe('a refusal', () => {
  it.each([
    [400, 'validation_failed'],
    [401, 'invalid_signature'],
    [404, 'provider_not_found'],
    [413, 'payload_too_large'],
  ])('%s %s is thrown at once', async (status, code) => {
    await using webhook = await startWebhook(problem(status, code));
    const error = await failureOf(forwarder(webhook.baseUrl)(paid));
    expect(error).toMatchObject({ status, code, message: `It is ${code}`, requestId: 'req_1' });
    expect(webhook.seen).toHaveLength(1);
  });

  it('of something that is not the server is an invalid response', async () => {
    await using webhook = await startWebhook({ status: 404, headers: { 'content-type': 'text/html' }, body: '<h1>' });
    const error = await failureOf(forwarder(webhook.baseUrl)(paid));
    expect(error).toMatchObject({ status: 404, code: 'invalid_response', message: 'The server answered 404' });
  });

  it.each([301, 302, 303, 307, 308])('is a redirect with %s: the secret goes nowhere else', async (status) => {
    await using other = await startWebhook();
    await using webhook = await startWebhook({ status, headers: { location: `${other.baseUrl}/elsewhere` } });
    const error = await failureOf(forwarder(webhook.baseUrl)(preCheckout));
    expect(error).toMatchObject({ status, code: 'invalid_response' });
    expect([webhook.seen.length, other.seen.length]).toEqual([1, 0]);
  });

  it('comes before any call for an update that is no JSON', async () => {
    await using webhook = await startWebhook();
    const error = await failureOf(forwarder(webhook.baseUrl)({ ...preCheckout, extra: 1n }));
    expect(error.code).toBe('client_error');
    expect(webhook.seen).toEqual([]);
  });
});

describe('secrets', () => {
  it.each(['', 'with space', 'two\nlines', 'ключ', 'a'.repeat(257)])('that Telegram does not allow: %j', (wrong) => {
    const refusal = refusalOf(() => forwarder('https://vpn.example.com', { secret: wrong }));
    expect(refusal).toBeInstanceOf(TypeError);
    expect(String(refusal)).toBe('TypeError: secret must be 1 to 256 letters, digits, "_" or "-"');
  });

  it.each(['https://ada:hidden@vpn.example.com', 'ftp://vpn.example.com', 'vpn.example.com'])(
    'and the base URL %s are refused before any call',
    (baseUrl) => {
      const refusal = refusalOf(() => forwarder(baseUrl));
      expect(refusal).toBeInstanceOf(TypeError);
      expect(String(refusal)).not.toMatch(/hidden/);
    },
  );

  it.each([
    ['a dropped connection', 'drop'],
    ['401', problem(401, 'invalid_signature')],
    ['an odd answer', { status: 418, body: 'no' }],
    ['a redirect', { status: 302, headers: { location: '/' } }],
  ] satisfies [string, Answer][])('are not in the error after %s', async (_, fault) => {
    await using webhook = await startWebhook(fault);
    const error = await failureOf(forwarder(webhook.baseUrl, { paymentBudgetMs: 1_000, baseDelayMs: 5_000 })(paid));
    expect(`${error.message} ${error.stack} ${String(error.cause)}`).not.toContain(secret);
  });
});

describe('the middleware', () => {
  /** Runs it once; tells in which order things happened. */
  async function orderOf(update: unknown): Promise<string[]> {
    const order: string[] = [];
    const fetch: typeof globalThis.fetch = async (...call) => {
      const response = await globalThis.fetch(...call);
      order.push('taken');
      return response;
    };
    await using webhook = await startWebhook();
    const middleware = telegramPayments(optionsFor(webhook.baseUrl, { fetch }));
    await middleware({ update }, async () => void order.push('next'));
    return order;
  }

  it('consumes a pre-checkout query, because the server answers it', async () => {
    expect(await orderOf(preCheckout)).toEqual(['taken']);
  });

  it.each([paid, refunded])('passes a payment on once the server has taken it: %#', async (update) => {
    expect(await orderOf(update)).toEqual(['taken', 'next']);
  });

  it('passes all else on untouched', async () => {
    expect(await orderOf(text)).toEqual(['next']);
  });

  it.each([preCheckout, paid])('rejects and passes nothing on when the server refuses: %#', async (update) => {
    await using webhook = await startWebhook(problem(401, 'invalid_signature'));
    let isPassedOn = false;
    const next = async () => {
      isPassedOn = true;
    };
    const middleware = telegramPayments(optionsFor(webhook.baseUrl));
    expect((await failureOf(middleware({ update }, next))).code).toBe('invalid_signature');
    expect(isPassedOn).toBe(false);
  });

  it('leaves the errors of the bot as they are', async () => {
    await using webhook = await startWebhook();
    const failure = new Error('of the bot');
    const middleware = telegramPayments(optionsFor(webhook.baseUrl));
    await expect(middleware({ update: paid }, () => Promise.reject(failure))).rejects.toBe(failure);
    expect(webhook.seen).toHaveLength(1);
  });
});
