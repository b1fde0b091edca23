import { listRefunds } from '@vpn-api/db';
import { describe, test } from 'vitest';
import { settleParked } from '../../src/ops/settle-parked.ts';
import { engines } from '../harness.ts';
import { Shop, service } from '../payment/shop.ts';
import { type ChaosDelivery, chaosProvider } from './chaos-provider.ts';
import { Dice } from './dice.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';

const PRICE = 900;

/** What one payment can be told about, with the amounts in cents. Each set ends the same whatever comes first. */
const stories: Readonly<Record<string, readonly Partial<ChaosDelivery>[]>> = {
  'paid twice and refunded in two parts': [
    { type: 'completed' },
    { type: 'completed' },
    { type: 'refunded', refundId: 'a', amountMinor: 300 },
    { type: 'refunded', refundId: 'b', amountMinor: 200 },
  ],
  'failed, paid late and refunded in full': [
    { type: 'completed' },
    { type: 'failed' },
    { type: 'refunded', refundId: 'a', amountMinor: PRICE },
    { type: 'refunded', refundId: 'a', amountMinor: PRICE },
  ],
  'paid, and disputed in vain': [
    { type: 'completed' },
    { type: 'disputed', refundId: 'd' },
    { type: 'dispute_won', refundId: 'd' },
  ],
  'paid, disputed and lost': [
    { type: 'completed' },
    { type: 'disputed', refundId: 'd' },
    { type: 'dispute_lost', refundId: 'd' },
  ],
};

describe.each(engines)('events about one payment, on %s', { timeout: SCENARIO_TIMEOUT_MS }, (engine) => {
  test.each(Object.entries(stories))('end the same in every order: %s', async (title, story) => {
    const start = performance.now();
    await using shop = await Shop.open(engine);
    await shop.hireAdmin();
    const ends = new Map<string, string>();
    const orders = new Dice(seed).shuffled(permutations(story)).slice(0, scale.orders);
    for (const order of orders) {
      const end = await play(shop, order);
      if (!ends.has(end)) ends.set(end, order.map(({ type }) => type).join(', '));
    }
    const violations = ends.size === 1 ? [] : [...ends].map(([end, order]) => `${order}: ${end}`);
    const counts = { orders: orders.length };
    report({
      id: 'R3',
      title: `Order of events: ${title}`,
      engine,
      seed,
      counts,
      violations,
      seconds: secondsSince(start),
    });
  });
});

/** A new customer's payment, told about in this order; what it came to. */
async function play(shop: Shop, story: readonly Partial<ChaosDelivery>[]): Promise<string> {
  const services = { providers: new Map([...shop.services.providers, [chaosProvider.name, chaosProvider]]) };
  const user = await shop.person();
  const { id: tariff_id } = await shop.tariff({ duration_days: 30, price: '9.00' });
  const order = { user_id: user.id, tariff_id, provider: 'chaos' };
  const payment = await shop.as(service, { services }).payment.create(order);
  const { reference } = payment;
  for (const [n, told] of story.entries()) {
    const money = { chargeId: `charge-${reference}`, amountMinor: PRICE, currency: 'USD' };
    const refundId = told.refundId === undefined ? {} : { refundId: `${told.refundId}-${reference}` };
    const delivery = { id: `${n}-${reference}`, reference, ...money, ...told, ...refundId };
    const webhook = { provider: 'chaos', headers: {}, raw_body: JSON.stringify(delivery) };
    await shop.as({ kind: 'public' }, { services }).payment.webhook(webhook);
  }
  // What waited for the payment is looked at again, as the background job would when the payment was settled.
  for (let round = 0; round < story.length; round += 1) await settleParked({ ...shop.services, ...services });
  const row = await shop.payment(payment.id);
  const periods = await shop.periods(user);
  const refunds = (await listRefunds(shop.store, payment.id)).map(
    ({ amount_minor, status }) => `${amount_minor} ${status}`,
  );
  return JSON.stringify({
    status: row.status,
    refunded: row.refunded_minor,
    isDisputed: row.disputed_at !== null,
    // A full refund that came before the money leaves no period, one that came later a period of no length.
    paid: periods.reduce((sum, { starts_at, ends_at }) => sum + Date.parse(ends_at ?? '') - Date.parse(starts_at), 0),
    refunds: refunds.toSorted(),
  });
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, index) => permutations(items.toSpliced(index, 1)).map((rest) => [item, ...rest]));
}
