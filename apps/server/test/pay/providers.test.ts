import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { engines, startApp } from '../harness.ts';
import { createPayment, send, startShop, statusOf } from './provider-shop.ts';

describe.each(engines)('providers of a server on %s', (engine) => {
  it('are those whose variables are set', async () => {
    await using shop = await startShop(engine);
    const { body } = await shop.app.rest<{ name: string; checkout: string }[]>('GET', '/payments/providers');
    const found = Object.fromEntries(body.map(({ name, checkout }) => [name, checkout]));
    expect(found).toMatchObject({ stripe: 'redirect', yookassa: 'redirect', crypto_pay: 'redirect', manual: 'manual' });
    await using bare = await startApp({ engine });
    const { body: few } = await bare.rest<{ name: string }[]>('GET', '/payments/providers');
    expect(few.map(({ name }) => name)).toEqual(['standard', 'shop2', 'manual']);
    expect((await bare.rest('POST', '/payments/webhook/stripe', { body: '{}' })).status).toBe(404);
  });

  it.each([
    ['stripe', 'USD'],
    ['cryptoPay', 'USDT'],
    ['cryptoPay', 'RUB'],
  ] as const)('take a payment through %s in %s, from the checkout to the webhook', async (side, currency) => {
    await using shop = await startShop(engine);
    const name = side === 'cryptoPay' ? 'crypto_pay' : side;
    const payment = await createPayment(shop, name, currency);
    expect(payment).toMatchObject({ status: 'pending', checkout: { type: 'redirect' } });
    expect(await createPayment(shop, name, currency)).toEqual(payment);
    expect(shop[side].checkouts(payment.reference)).toBe(1);
    const [paid] = shop[side].pay(payment.reference);
    if (paid === undefined) throw new Error('nothing was sent');
    expect(await send(shop.app, name, { ...paid, raw: `${paid.raw} ` })).toEqual([401, undefined]);
    expect(await send(shop.app, name, paid)).toEqual([200, 'settled']);
    expect(await send(shop.app, name, paid)).toEqual([200, 'duplicate']);
    expect(await statusOf(shop, payment)).toBe('completed');
  });

  it('leave a payment open when the provider is down, and open it at the next call', async () => {
    await using shop = await startShop(engine);
    shop.stripe.fail('busy', 'POST');
    const body = { tariff_id: shop.tariffId, provider: 'stripe', currency: 'USD' };
    const refused = await shop.app.rest('POST', '/payments', { token: shop.token, body });
    expect(refused.status).toBe(503);
    const payment = await createPayment(shop, 'stripe', 'USD');
    expect(payment.checkout?.type).toBe('redirect');
  });

  it('keep what comes from an address of YooKassa, as the last proxy saw it', async () => {
    await using shop = await startShop(engine, { TRUSTED_PROXIES: '127.0.0.1' });
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    const [notice] = shop.yookassa.pay(payment.reference);
    if (notice === undefined) throw new Error('nothing was sent');
    const from = (hops: string) => send(shop.app, 'yookassa', notice, { 'x-forwarded-for': hops });
    expect(await from('203.0.113.9')).toEqual([401, undefined]);
    expect(await from('185.71.76.1, 203.0.113.9')).toEqual([401, undefined]);
    expect(await send(shop.app, 'yookassa', notice)).toEqual([401, undefined]);
    expect((await from('203.0.113.9, 185.71.76.1'))[0]).toBe(200);
  });

  it('believe no header where no proxy is trusted', async () => {
    await using shop = await startShop(engine);
    const payment = await createPayment(shop, 'yookassa', 'RUB');
    const [notice] = shop.yookassa.pay(payment.reference);
    if (notice === undefined) throw new Error('nothing was sent');
    const hops = { 'x-forwarded-for': '185.71.76.1' };
    expect(await send(shop.app, 'yookassa', notice, hops)).toEqual([401, undefined]);
  });

  it('show none of their secrets, whatever goes wrong', async () => {
    await using shop = await startShop(engine);
    for (const [side, name, currency] of [
      ['stripe', 'stripe', 'USD'],
      ['yookassa', 'yookassa', 'RUB'],
      ['cryptoPay', 'crypto_pay', 'RUB'],
    ] as const) {
      for (const fault of ['refuse', 'fail_after', 'page', 'drop'] as const) {
        shop[side].fail(fault, 'POST');
        const body = { tariff_id: shop.tariffId, provider: name, currency };
        const answer = await shop.app.rest('POST', '/payments', { token: shop.token, body });
        expect(answer.text).not.toContain('canary');
      }
      await send(shop.app, name, { raw: '{}', headers: { 'stripe-signature': 'canary' }, remoteAddress: undefined });
    }
    expect(shop.app.logs.filter((line) => line.includes('canary'))).toEqual([]);
    expect(inspect(shop.app.services.providers, { depth: 5, showHidden: true })).not.toContain('canary');
  });
});
