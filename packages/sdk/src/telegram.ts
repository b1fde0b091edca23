import { pause, withDeadline } from './deadline.ts';
import { isVpnApiError, toVpnApiError, VpnApiError } from './errors.ts';
import { backoffMs, type RetryPolicy } from './retry.ts';

/** Telegram takes an answer to a pre-checkout query for ten seconds; the way there and back must fit in too. */
const PRE_CHECKOUT_BUDGET_MS = 9_000;
/** A restart of the server fits in. Longer would hold up the bot, and the server asks Telegram about its payments anyway. */
const PAYMENT_BUDGET_MS = 60_000;
/** The server itself waits up to eight seconds for Telegram. */
const ATTEMPT_MS = 10_000;
/** Someone stands before the checkout: more pauses rather than long ones. */
const MAX_BACKOFF_MS = 5_000;

export interface TelegramForwardingOptions {
  /** Where the server is, such as `https://vpn.example.com`; `/payments/webhook/telegram_stars` is added. */
  readonly baseUrl: string | URL;
  /** The server's `TELEGRAM_WEBHOOK_SECRET`: 1–256 letters, digits, `_` and `-`. */
  readonly secret: string;
  /** Default: the global `fetch`. */
  readonly fetch?: typeof globalThis.fetch;
  /** For each attempt, in milliseconds; half of the update's budget at most, so that a second one fits. Default 10 000. */
  readonly timeoutMs?: number;
  /** For a pre-checkout query with all its repeats, in milliseconds. Default 9 000: Telegram gives up after ten seconds. */
  readonly preCheckoutBudgetMs?: number;
  /** For a payment or refund with all its repeats, in milliseconds. Default 60 000. */
  readonly paymentBudgetMs?: number;
  /** The first pause between attempts, doubled at each further one up to five seconds. Default 250 ms. */
  readonly baseDelayMs?: number;
  /** Ends all forwarding, for a bot that shuts down; what runs then rejects with `aborted`. */
  readonly signal?: AbortSignal;
  /** 0 ≤ x < 1, spreads the pauses; for tests. */
  readonly random?: () => number;
}

/** Takes one raw update. False, and nothing sent, when it is about no payment; true when the server has taken it. */
export type ForwardTelegramUpdate = (update: unknown) => Promise<boolean>;

/** Middleware of grammY, Telegraf and whatever else has `ctx.update` and `next`. */
export type TelegramPaymentsMiddleware = (
  ctx: { readonly update: unknown },
  next: () => Promise<void>,
) => Promise<void>;

/** Whether the server wants this update: a `pre_checkout_query`, or a message with `successful_payment` or `refunded_payment`. */
export function isPaymentUpdate(update: unknown): boolean {
  return isPreCheckout(update) || isPaymentMessage(update);
}

/**
 * Makes a function that brings updates about payments to the server: it answers pre-checkout queries, and reads payments
 * in Stars back from Telegram. For a bot that owns its updates and takes them without a framework; with one, see
 * `telegramPayments`.
 *
 * Repeated within the update's budget: no answer, 429 and 5xx, with growing pauses and never sooner than `Retry-After`
 * asks. A repeat is harmless: the server recognises it. Everything else, redirects too, ends at once.
 *
 * The function rejects with a `VpnApiError`, the last one when the budget is used up. Do not confirm such an update to
 * Telegram, so that it comes again. When it is lost all the same, no money is: the server asks Telegram about payments
 * that are open.
 *
 * @example
 * ```ts
 * const secret = process.env.TELEGRAM_WEBHOOK_SECRET ?? '';
 * const forward = forwardTelegramPayments({ baseUrl: 'https://vpn.example.com', secret });
 *
 * const isTaken = await forward(update);
 * if (!isTaken) await handle(update);
 * ```
 * @throws TypeError when `baseUrl` is no http(s) URL or carries a user name or password, or `secret` has other characters
 */
export function forwardTelegramPayments(options: TelegramForwardingOptions): ForwardTelegramUpdate {
  const target = { url: webhookUrl(options.baseUrl), secret: checkedSecret(options.secret), fetch: options.fetch };
  const plans = plansOf(options);
  return async (update) => {
    if (!isPaymentUpdate(update)) return false;
    const body = textOf(update);
    const plan = isPreCheckout(update) ? plans.preCheckout : plans.payment;
    await deliver(plan, (signal) => send(target, body, signal));
    return true;
  };
}

/**
 * `forwardTelegramPayments` as middleware of grammY or Telegraf. Install it first, so that nothing slow stands between
 * a customer at the checkout and the answer.
 *
 * A pre-checkout query ends here, because the server answers it. A payment or refund goes on once the server has taken
 * it, so that the bot can thank the customer. All else goes on untouched. When the server cannot be reached, the
 * middleware rejects with a `VpnApiError` and what follows does not run.
 *
 * @example
 * ```ts
 * const secret = process.env.TELEGRAM_WEBHOOK_SECRET ?? '';
 * bot.use(telegramPayments({ baseUrl: 'https://vpn.example.com', secret }));
 * bot.on('message:successful_payment', (ctx) => ctx.reply('Thank you!'));
 * ```
 * @throws TypeError as `forwardTelegramPayments` does
 */
export function telegramPayments(options: TelegramForwardingOptions): TelegramPaymentsMiddleware {
  const forward = forwardTelegramPayments(options);
  return async ({ update }, next) => {
    await forward(update);
    if (!isPreCheckout(update)) await next();
  };
}

function isPreCheckout(update: unknown): boolean {
  return isRecord(update) && isRecord(update.pre_checkout_query);
}

function isPaymentMessage(update: unknown): boolean {
  if (!isRecord(update) || !isRecord(update.message)) return false;
  return isRecord(update.message.successful_payment) || isRecord(update.message.refunded_payment);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** `fetch` refuses credentials in a URL with a message that repeats them, so they are refused here without. */
function webhookUrl(baseUrl: string | URL): string {
  const url = new URL(baseUrl);
  if (!/^https?:$/.test(url.protocol)) throw new TypeError('baseUrl must be an http or https URL');
  if (url.username !== '' || url.password !== '') throw new TypeError('baseUrl must not carry a user name or password');
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/payments/webhook/telegram_stars`;
  url.search = '';
  url.hash = '';
  return url.href;
}

/** What is no header value would make `fetch` fail with a message that repeats it. This one never does. */
function checkedSecret(secret: string): string {
  if (typeof secret === 'string' && /^[A-Za-z0-9_-]{1,256}$/.test(secret)) return secret;
  throw new TypeError('secret must be 1 to 256 letters, digits, "_" or "-"');
}

interface DeliveryPlan {
  /** For all attempts and pauses. */
  readonly budgetMs: number;
  readonly attemptMs: number;
  readonly backoff: Pick<RetryPolicy, 'baseDelayMs' | 'maxDelayMs' | 'random'>;
  readonly signal: AbortSignal | undefined;
}

function plansOf(options: TelegramForwardingOptions): Record<'preCheckout' | 'payment', DeliveryPlan> {
  const { timeoutMs = ATTEMPT_MS, baseDelayMs = 250, random = Math.random, signal } = options;
  const backoff = { baseDelayMs, maxDelayMs: MAX_BACKOFF_MS, random };
  const planFor = (budgetMs: number): DeliveryPlan => {
    return { budgetMs, attemptMs: Math.min(timeoutMs, Math.ceil(budgetMs / 2)), backoff, signal };
  };
  return {
    preCheckout: planFor(options.preCheckoutBudgetMs ?? PRE_CHECKOUT_BUDGET_MS),
    payment: planFor(options.paymentBudgetMs ?? PAYMENT_BUDGET_MS),
  };
}

/** Rejects as soon as no further attempt can start within the budget, rather than wait for its end. */
async function deliver(plan: DeliveryPlan, attempt: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const { signal, attemptMs } = plan;
  const endsAt = performance.now() + plan.budgetMs;
  for (let repeats = 0; ; repeats += 1) {
    try {
      const remainingMs = Math.ceil(endsAt - performance.now());
      return await withDeadline({ signal, timeoutMs: Math.min(attemptMs, remainingMs) }, attempt);
    } catch (cause) {
      const error = toVpnApiError(cause);
      const delayMs = Math.max(backoffMs(repeats, plan.backoff), (error.retryAfterSeconds ?? 0) * 1000);
      if (!mayRepeat(error) || performance.now() + delayMs >= endsAt) throw error;
      await pause(delayMs, signal);
      // A busy machine wakes late.
      if (performance.now() >= endsAt) throw error;
    }
  }
}

/** Unlike most calls of the API, whose outcome is unknown after a 500, a delivery counts once however often it comes. */
function mayRepeat({ code, status }: VpnApiError): boolean {
  if (status === undefined) return code === 'network_error' || code === 'timeout';
  return status === 429 || status >= 500;
}

interface Target {
  readonly url: string;
  readonly secret: string;
  readonly fetch: typeof globalThis.fetch | undefined;
}

async function send(target: Target, body: string, signal: AbortSignal): Promise<void> {
  const response = await answerOf(target, body, signal);
  if (!response.ok) throw await refusalOf(response);
  await drop(response);
}

/** Redirects are left alone: following one would hand the secret to whoever it points at. */
async function answerOf({ url, secret, fetch: custom }: Target, body: string, signal: AbortSignal): Promise<Response> {
  const fetch = custom ?? globalThis.fetch;
  const headers = { 'content-type': 'application/json', 'x-telegram-bot-api-secret-token': secret };
  try {
    return await fetch(url, { method: 'POST', headers, body, redirect: 'manual', signal });
  } catch (cause) {
    if (isVpnApiError(cause)) throw cause;
    throw new VpnApiError({ code: 'network_error', message: 'The server could not be reached', cause });
  }
}

async function refusalOf(response: Response): Promise<VpnApiError> {
  const { status } = response;
  if (response.type === 'opaqueredirect' || (status >= 300 && status < 400)) {
    await drop(response);
    const message = 'The server answered with a redirect, which is not followed: check baseUrl';
    return new VpnApiError({ code: 'invalid_response', message, status });
  }
  const responseJSON: unknown = await response.json().catch(() => undefined);
  return toVpnApiError({ message: `The server answered ${status}`, meta: { response, responseJSON } });
}

/** The status has said it all; what happens to the rest of the answer changes nothing. */
async function drop({ body }: Response): Promise<void> {
  await body?.cancel().catch(() => undefined);
}

function textOf(update: unknown): string {
  try {
    return JSON.stringify(update);
  } catch (cause) {
    throw new VpnApiError({ code: 'client_error', message: 'The update is not JSON', cause });
  }
}
