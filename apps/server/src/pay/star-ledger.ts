import { epochMs } from '../domain/instant.ts';
import { type PaymentQuery, ProviderError } from './provider.ts';
import { type Json, objectOf, objectsOf } from './read.ts';

/** One movement of Stars in or out of the bot's account. */
export interface StarTransaction {
  /** The charge; a refund has the id of what it pays back. */
  readonly id: string;
  readonly direction: 'in' | 'out';
  /** Of the invoice; undefined on refunds and on what is no payment. */
  readonly reference: string | undefined;
  readonly amount: number;
  readonly payerId: string | undefined;
  /** Of a subscription: each renewal is a transaction of its own. */
  readonly isRecurring: boolean;
  /** The answer as it came. */
  readonly raw: string;
}

/** One page of `getStarTransactions`: at most `limit` from `offset` on, oldest first. */
export type ReadPage = (offset: number, limit: number, signal: AbortSignal) => Promise<readonly Json[]>;

const PAGE_SIZE = 100;
/** The bot's clock and ours agree within this. */
const MARGIN_SECONDS = 3_600;

/**
 * The account's transactions from some time on. Telegram lists them from the beginning and has no other way to search, so
 * what was read is kept, and only what came since is asked for; where to begin is found by halving.
 */
export class StarLedger {
  readonly #readPage: ReadPage;
  readonly #entries: StarTransaction[] = [];
  #since = Number.POSITIVE_INFINITY;
  #next = 0;
  #refreshing: Promise<void> | undefined;

  constructor(readPage: ReadPage) {
    this.#readPage = readPage;
  }

  /** All that is known of one payment: the charges on its invoice, its own charge, and what was paid back of them. */
  async find(
    { reference, chargeId, createdAt }: PaymentQuery,
    signal: AbortSignal,
  ): Promise<readonly StarTransaction[]> {
    await this.#refresh(epochMs(createdAt) / 1000 - MARGIN_SECONDS, signal);
    const paid = this.#entries.filter(({ direction }) => direction === 'in');
    const own = paid.filter((entry) => entry.reference === reference || entry.id === chargeId);
    const charges = new Set(own.map(({ id }) => id));
    return this.#entries.filter((entry) => charges.has(entry.id));
  }

  /** One at a time: two would count the same page twice. */
  async #refresh(sinceSeconds: number, signal: AbortSignal): Promise<void> {
    while (this.#refreshing !== undefined) await this.#refreshing.catch(() => {});
    this.#refreshing = this.#readNews(sinceSeconds, signal).finally(() => {
      this.#refreshing = undefined;
    });
    await this.#refreshing;
  }

  async #readNews(sinceSeconds: number, signal: AbortSignal): Promise<void> {
    if (sinceSeconds < this.#since) {
      this.#next = await this.#firstSince(sinceSeconds, signal);
      this.#entries.length = 0;
      this.#since = sinceSeconds;
    }
    for (;;) {
      const page = await this.#readPage(this.#next, PAGE_SIZE, signal);
      for (const transaction of page) {
        const entry = readTransaction(transaction);
        if (entry !== undefined) this.#entries.push(entry);
      }
      this.#next += page.length;
      if (page.length < PAGE_SIZE) return;
    }
  }

  /** The place of the first transaction that is not older. */
  async #firstSince(seconds: number, signal: AbortSignal): Promise<number> {
    const isOlder = async (offset: number) => {
      const [transaction] = await this.#readPage(offset, 1, signal);
      return transaction !== undefined && dateOf(transaction) < seconds;
    };
    let low = 0;
    let high = 1;
    while (await isOlder(high - 1)) [low, high] = [high, high * 2];
    while (low < high - 1) {
      const middle = Math.floor((low + high) / 2);
      if (await isOlder(middle)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function dateOf({ date }: Json): number {
  if (typeof date !== 'number') throw new ProviderError('unavailable', 'telegram_stars: a transaction without date');
  return date;
}

/** Undefined for what has no meaning to us: withdrawals, advertising, gifts. */
function readTransaction(transaction: Json): StarTransaction | undefined {
  const { id, amount } = transaction;
  const direction = objectOf(transaction.source) === undefined ? 'out' : 'in';
  const partner = objectOf(direction === 'in' ? transaction.source : transaction.receiver);
  if (typeof id !== 'string' || typeof amount !== 'number' || !Number.isSafeInteger(amount)) return undefined;
  if (partner?.type !== 'user') return undefined;
  const payer = objectOf(partner.user)?.id;
  return {
    id,
    direction,
    reference: typeof partner.invoice_payload === 'string' ? partner.invoice_payload : undefined,
    amount: Math.abs(amount),
    payerId: typeof payer === 'number' ? String(payer) : undefined,
    isRecurring: typeof partner.subscription_period === 'number',
    raw: JSON.stringify(transaction),
  };
}

/** The transactions in an answer of `getStarTransactions`. */
export function transactionsOf(result: Json): readonly Json[] {
  return objectsOf(result.transactions);
}
