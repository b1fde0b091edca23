import { createHash } from 'node:crypto';
import { insertUser, type UserRow, updateUser } from '@vpn-api/db';
import { sql } from 'kysely';
import { DomainError } from '../../src/domain/errors.ts';
import type { SettlementEvent } from '../../src/domain/settlement.ts';
import { settleParked } from '../../src/ops/settle-parked.ts';
import type { Services } from '../../src/services.ts';
import { DAY, type Shop, service } from '../payment/shop.ts';
import { type ChaosDelivery, chaosProvider } from './chaos-provider.ts';
import type { Dice } from './dice.ts';

const PRICE = 900;

/**
 * A shop whose every chance comes from one seed, so that the same history can be played on two databases. Each step is one
 * call of a customer, a bot, an admin or a provider; what it was answered goes into the transcript.
 */
export class History {
  readonly transcript: string[] = [];
  readonly #shop: Shop;
  readonly #dice: Dice;
  readonly #services: Partial<Services>;
  readonly #users: UserRow[] = [];
  readonly #tariffs: number[] = [];
  readonly #payments: { readonly id: number; readonly reference: string }[] = [];
  readonly #told: ChaosDelivery[] = [];
  #count = 0;

  constructor(shop: Shop, dice: Dice) {
    this.#shop = shop;
    this.#dice = dice;
    let drawn = 0;
    this.#services = {
      providers: new Map([...shop.services.providers, [chaosProvider.name, chaosProvider]]),
      random: {
        bytes: (length) => {
          drawn += 1;
          const digest = createHash('sha512').update(`${dice.seed} ${drawn}`).digest();
          return new Uint8Array(digest.subarray(0, length));
        },
      },
    };
  }

  async play(steps: number): Promise<void> {
    await this.#open();
    for (let step = 0; step < steps; step += 1) await this.#try(this.#dice.pick(this.#verbs));
    // What still waits is looked at once more, as the background job would.
    await this.#note('settle parked', () => settleParked({ ...this.#shop.services, ...this.#services }));
  }

  readonly #verbs: readonly (keyof History['verbs'])[] = [
    ...(['order', 'order', 'order', 'pay', 'pay', 'pay', 'pay', 'repeat', 'repeat'] as const),
    ...(['fail', 'refund', 'refund', 'payAgain', 'payOther', 'dispute', 'wait', 'wait', 'wait'] as const),
    ...(['grant', 'extend', 'revoke', 'resolve', 'settleParked', 'block'] as const),
  ];

  readonly verbs = {
    order: () => {
      const user = this.#dice.pick(this.#users);
      const tariff_id = this.#tariff();
      return this.#call(async (as) => {
        const payment = await as.payment.create({ user_id: user.id, tariff_id, provider: 'chaos', ...this.#apply() });
        if (!this.#payments.some(({ id }) => id === payment.id)) this.#payments.push(payment);
        return payment;
      });
    },
    pay: () => this.#tell(this.#about('completed')),
    repeat: () => (this.#told.length === 0 ? this.verbs.pay() : this.#tell(this.#dice.pick(this.#told))),
    fail: () => this.#tell(this.#about('failed')),
    payAgain: () =>
      this.#tell({
        ...this.#about('completed'),
        chargeId: `again-${this.#dice.seed}-${this.#next()}`,
        renewal: this.#dice.chance(0.5),
      }),
    payOther: () => this.#tell({ ...this.#about('completed'), amountMinor: PRICE - 1 }),
    refund: () => {
      const amountMinor = this.#dice.pick([PRICE, PRICE, PRICE / 3, PRICE / 2, 1]);
      return this.#tell({
        ...this.#about('refunded'),
        refundId: `refund-${this.#dice.seed}-${this.#next()}`,
        amountMinor,
      });
    },
    dispute: () => {
      const about = this.#about(this.#dice.pick(['disputed', 'dispute_won', 'dispute_lost'] as const));
      return this.#tell({ ...about, refundId: `dispute-${about.reference}` });
    },
    wait: () => {
      const seconds = this.#dice.pick([60, 3_600, DAY / 2, 3 * DAY, 11 * DAY, 31 * DAY, -3_600]);
      return this.#note(`wait ${seconds}`, async () => this.#shop.clock.advance(seconds));
    },
    grant: () => {
      const input = { user_id: this.#dice.pick(this.#users).id, tariff_id: this.#tariff() };
      return this.#call((as) => as.subscription.grant(input));
    },
    extend: () => {
      const input = { user_id: this.#dice.pick(this.#users).id, days: this.#dice.between(1, 9), reason: 'sorry' };
      return this.#note('extend', () => this.#admin().subscription.extend(input));
    },
    revoke: () => {
      const period_id = this.#dice.between(1, Math.max(1, this.#count));
      return this.#note('revoke', () => this.#admin().subscription.revoke({ period_id, reason: 'mistake' }));
    },
    resolve: () => {
      const payment_id = this.#dice.pick(this.#payments)?.id ?? 1;
      const action = this.#dice.pick(['accept', 'reject'] as const);
      return this.#note('resolve', () => this.#admin().payment.resolve({ payment_id, action, note: 'looked' }));
    },
    settleParked: () => this.#note('settle parked', () => settleParked({ ...this.#shop.services, ...this.#services })),
    block: () => {
      const { id } = this.#dice.pick(this.#users);
      const status = this.#dice.pick(['active', 'blocked'] as const);
      return this.#note(status, async () => (await updateUser(this.#shop.store, id, { status }))?.status);
    },
  };

  async #open(): Promise<void> {
    for (let n = 0; n < 3; n += 1) {
      const email = `customer-${this.#dice.seed}-${n}@example.com`;
      this.#users.push(await insertUser(this.#shop.store, { email, created_at: this.#shop.clock.now() }));
    }
    for (const duration_days of [7, 30, 30, null]) {
      const name = `tariff-${this.#dice.seed}-${this.#tariffs.length}`;
      const terms = { name, duration_days, price: '9.00', currency: 'USD', grace_days: this.#dice.between(0, 3) };
      this.#tariffs.push((await this.#shop.admin.tariff.create(terms)).id);
    }
  }

  async #try(verb: keyof History['verbs']): Promise<void> {
    // Before the first order there is nothing to talk about.
    await this.verbs[this.#payments.length === 0 ? 'order' : verb]();
  }

  #apply() {
    return this.#dice.chance(0.5) ? {} : { apply: 'extend' as const };
  }

  /** A lifetime, which is the last one, ends all selling: it is for the few. */
  #tariff(): number {
    return this.#dice.pick(this.#dice.chance(0.9) ? this.#tariffs.slice(0, -1) : this.#tariffs);
  }

  #about(type: SettlementEvent['type']): ChaosDelivery {
    const { reference } = this.#dice.pick(this.#payments);
    const event = { type, reference, chargeId: `charge-${reference}`, amountMinor: PRICE, currency: 'USD' };
    return { ...event, id: `event-${this.#dice.seed}-${this.#next()}` };
  }

  #tell(delivery: ChaosDelivery): Promise<void> {
    this.#told.push(delivery);
    const raw_body = JSON.stringify(delivery);
    const publicly = () => this.#shop.as({ kind: 'public' }, { services: this.#services });
    return this.#note(`tell ${raw_body}`, () =>
      publicly().payment.webhook({ provider: 'chaos', headers: {}, raw_body }),
    );
  }

  #call(work: (as: ReturnType<Shop['as']>) => Promise<unknown>): Promise<void> {
    return this.#note('call', () => work(this.#shop.as(service, { services: this.#services })));
  }

  #admin(): ReturnType<Shop['as']> {
    return this.#shop.as(this.#shop.adminActor, { services: this.#services });
  }

  #next(): number {
    this.#count += 1;
    return this.#count;
  }

  /** A refusal is an answer like any other; anything unexpected ends the history. */
  async #note(what: string, work: () => Promise<unknown>): Promise<void> {
    try {
      this.transcript.push(`${what} -> ${JSON.stringify(await work())}`);
    } catch (error) {
      const refusal = error instanceof Error && error.cause instanceof DomainError ? error.cause : error;
      if (!(refusal instanceof DomainError)) throw error;
      this.transcript.push(`${what} -> ${refusal.code}`);
    }
  }
}

const TABLES = [
  ...['users', 'tariffs', 'payments', 'payment_events', 'refunds', 'subscription_periods'],
  ...['trial_claims', 'outbox_events', 'audit_log'],
] as const;

/** All that a history wrote, in a form that is the same on both databases when its meaning is. */
export async function dump({ store }: Shop): Promise<Record<string, string[]>> {
  const tables: Record<string, string[]> = {};
  for (const table of TABLES) {
    const { rows } = await sql<object>`select * from ${sql.table(table)} order by id`.execute(store.kysely);
    tables[table] = rows.map((row) => JSON.stringify(row, Object.keys(row).sort()));
  }
  return tables;
}
