import {
  findPayment,
  insertPayment,
  insertTariff,
  insertUser,
  type PaymentRow,
  type Store,
  type Tx,
} from '@vpn-api/db';
import { describe, expect, test } from 'vitest';
import { engines, START, startApp } from '../harness.ts';

describe.each(engines)('parked payment events on %s', (engine) => {
  test('are tried again every minute: another process may have made their payment', async () => {
    await using app = await startApp({ engine });
    const data = { reference: 'ref-1', provider_payment_id: 'ch-1', amount: '9.99', currency: 'USD' };
    const event = { type: 'payment.completed', timestamp: START, data };
    expect((await app.webhook(event)).body).toEqual({ received: true, result: 'parked' });
    // Parking wakes the loop of this process; the payment below is another one's, which wakes nothing here.
    await app.settled();
    const { id } = await insertOpenPayment(app.store, 'ref-1');
    app.clock.advance(59);
    await app.settled();
    expect(await findPayment(app.store, id)).toMatchObject({ status: 'pending' });
    app.clock.advance(1);
    await app.settled();
    expect(await findPayment(app.store, id)).toMatchObject({ status: 'completed', provider_payment_id: 'ch-1' });
  });
});

function insertOpenPayment(store: Store, reference: string): Promise<PaymentRow> {
  return store.transaction((tx) => insertOpenPaymentIn(tx, reference));
}

async function insertOpenPaymentIn(tx: Tx, reference: string): Promise<PaymentRow> {
  const { id: user_id } = await insertUser(tx, { email: 'buyer@example.com', created_at: START });
  const prices = [{ currency: 'USD', amount_minor: 999, providers: null }];
  const tariff = { name: 'Month', duration_days: 30, created_at: START };
  const { id: tariff_id } = await insertTariff(tx, tariff, prices);
  const terms = {
    tariff_id,
    tariff_name: 'Month',
    duration_days: 30,
    device_limit: 1,
    traffic_limit_bytes: null,
    grace_days: 0,
  };
  return insertPayment(tx, {
    reference,
    user_id,
    tariff_id,
    provider: 'standard',
    status: 'pending',
    list_amount_minor: 999,
    amount_minor: 999,
    currency: 'USD',
    tariff_snapshot: JSON.stringify(terms),
    created_at: START,
    updated_at: START,
  });
}
