import { randomUUID } from 'node:crypto';
import { listAudit } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { customer, paid, service, useShop } from '../payment/shop.ts';

describe.each(engines)('tariffs on %s', (engine) => {
  const world = useShop(engine);

  test('a tariff sold for one price has the defaults of a month on one device', async () => {
    const { admin } = world.shop;
    const name = randomUUID();
    const tariff = await admin.tariff.create({ name, price: '9.9' });
    expect(tariff).toEqual({
      id: expect.any(Number),
      name,
      description: null,
      duration_days: 30,
      price: '9.90',
      currency: 'USD',
      prices: [{ currency: 'USD', amount: '9.90' }],
      device_limit: 1,
      traffic_limit_bytes: null,
      trial: false,
      grace_days: 0,
      archived: false,
      created_at: world.shop.clock.now(),
    });
    expect(await admin.tariff.get({ tariff_id: tariff.id })).toEqual(tariff);
  });

  test('D38: description and duration are kept, and a negative price is refused', async () => {
    const { shop } = world;
    const tariff = await shop.tariff({ description: 'A year', duration_days: 365, grace_days: 3, trial: true });
    expect(tariff).toMatchObject({ description: 'A year', duration_days: 365, grace_days: 3, trial: true });
    await expect(shop.tariff({ price: '-1' })).rejects.toThrow('validation_failed');
  });

  test('D1: nobody but an admin creates, changes, archives or deletes a tariff', async () => {
    const { shop } = world;
    const { id } = await shop.tariff();
    const user = customer(await shop.person());
    for (const [actor, code] of [
      [{ kind: 'public' }, 'not_authenticated'],
      [user, 'admin_required'],
    ] as const) {
      const { tariff } = shop.as(actor);
      await expect(tariff.create({ name: randomUUID(), price: '1' })).rejects.toThrow(code);
      await expect(tariff.update({ tariff_id: id, price: '1' })).rejects.toThrow(code);
      await expect(tariff.archive({ tariff_id: id })).rejects.toThrow(code);
      await expect(tariff.remove({ tariff_id: id })).rejects.toThrow(code);
    }
    expect(await shop.admin.tariff.get({ tariff_id: id })).toMatchObject({ price: '9.99', archived: false });
  });

  test('an API key needs the scope', async () => {
    const { shop } = world;
    const name = randomUUID();
    await expect(shop.as(service).tariff.create({ name, price: '1' })).resolves.toMatchObject({ name });
    const reader = shop.as({ ...service, scopes: new Set(['payments:read']) });
    await expect(reader.tariff.create({ name: randomUUID(), price: '1' })).rejects.toThrow('scope_required');
  });

  test('a tariff has a price in each of several currencies, in the order given', async () => {
    const prices = [
      { currency: 'RUB', amount: '499' },
      { currency: 'XTR', amount: 250, providers: ['telegram_stars'] },
      { currency: 'USDT', amount: '5.000001' },
    ];
    const tariff = await world.shop.tariff({ price: undefined, prices });
    expect(tariff).toMatchObject({ price: '499.00', currency: 'RUB' });
    expect(tariff.prices).toEqual([
      { currency: 'RUB', amount: '499.00' },
      { currency: 'XTR', amount: '250', providers: ['telegram_stars'] },
      { currency: 'USDT', amount: '5.000001' },
    ]);
  });

  test.each([
    ['no price', { price: undefined }],
    ['both forms of price', { prices: [{ currency: 'EUR', amount: '1' }] }],
    ['a currency twice', { price: undefined, prices: Array(2).fill({ currency: 'EUR', amount: '1' }) }],
    ['more decimals than the currency has', { price: '9.999' }],
    ['a fraction as a number', { price: 9.99 }],
    ['more than 2^53 minor units', { price: '90071992547410' }],
    ['an unknown currency', { currency: 'XXX' }],
    ['an empty list of prices', { price: undefined, prices: [] }],
    ['no days', { duration_days: 0 }],
    ['no device', { device_limit: 0 }],
    ['a blank name', { name: ' ' }],
    ['a name with a NUL', { name: 'a\u0000b' }],
    ['a name with a lone surrogate', { name: 'a\ud800' }],
    ['a key that is not known', { prize: '1' }],
  ])('a tariff with %s is refused', async (_, input) => {
    await expect(world.shop.tariff(input)).rejects.toThrow('validation_failed');
  });

  test('a lifetime is an explicit null', async () => {
    expect(await world.shop.tariff({ duration_days: null })).toMatchObject({ duration_days: null });
  });

  test('in a create call null in an optional key means absent', async () => {
    const absent = { description: null, device_limit: null, currency: null, prices: null, trial: null };
    expect(await world.shop.tariff(absent)).toMatchObject({ device_limit: 1, currency: 'USD', trial: false });
  });

  test('a name is sold once, also when two ask at once', async () => {
    const { shop } = world;
    const name = randomUUID();
    const answers = await Promise.allSettled(Array.from({ length: 5 }, () => shop.tariff({ name })));
    expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const refusals = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason.message] : []));
    expect(new Set(refusals)).toEqual(new Set(['tariff_exists']));
    const other = await shop.tariff();
    await expect(shop.admin.tariff.update({ tariff_id: other.id, name })).rejects.toThrow('tariff_exists');
  });

  test('an update changes what it names, and null clears what may be null', async () => {
    const { admin } = world.shop;
    const { id, name } = await world.shop.tariff({ description: 'x', traffic_limit_bytes: 1000, device_limit: 2 });
    const changes = { description: null, traffic_limit_bytes: null, duration_days: 90, trial: true };
    expect(await admin.tariff.update({ tariff_id: id, ...changes })).toMatchObject({
      name,
      ...changes,
      price: '9.99',
      device_limit: 2,
    });
    expect(await admin.tariff.update({ tariff_id: id })).toMatchObject(changes);
    await expect(admin.tariff.update({ tariff_id: 2_000_000_000, price: '1' })).rejects.toThrow('tariff_not_found');
  });

  test('a lone price replaces that of its currency and leaves the others', async () => {
    const { admin } = world.shop;
    const prices = [
      { currency: 'EUR', amount: '8.00', providers: ['standard'] },
      { currency: 'RUB', amount: '900.00' },
    ];
    const { id } = await world.shop.tariff({ price: undefined, prices });
    const cheaper = await admin.tariff.update({ tariff_id: id, price: '7' });
    expect(cheaper.prices).toEqual([{ ...prices[0], amount: '7.00' }, prices[1]]);
    const further = await admin.tariff.update({ tariff_id: id, price: '10', currency: 'USD' });
    expect(further.prices.map(({ currency }) => currency)).toEqual(['EUR', 'RUB', 'USD']);
    const other = await admin.tariff.update({ tariff_id: id, prices: [{ currency: 'JPY', amount: '1000' }] });
    expect(other).toMatchObject({ price: '1000', currency: 'JPY', prices: [{ currency: 'JPY', amount: '1000' }] });
    await expect(admin.tariff.update({ tariff_id: id, currency: 'USD' })).rejects.toThrow('validation_failed');
  });

  test('an update touches neither a period already sold nor an open quote', async () => {
    const { shop } = world;
    const sold = await shop.order({ tariff: { duration_days: 30, device_limit: 2 } });
    await shop.deliver(paid(sold.payment));
    const open = await shop.order({ tariff: { duration_days: 30, device_limit: 2 } });
    const before = await shop.periods(sold.user);
    for (const { tariff } of [sold, open]) {
      const changes = { name: randomUUID(), price: '99', duration_days: 1, device_limit: 9, grace_days: 9 };
      await shop.admin.tariff.update({ tariff_id: tariff.id, ...changes });
    }
    expect(await shop.periods(sold.user)).toEqual(before);
    expect(await shop.admin.payment.get({ payment_id: open.payment.id })).toEqual(open.payment);
    expect(await shop.deliver(paid(open.payment))).toBe('settled');
    expect(await shop.periods(open.user)).toMatchObject([
      { tariff_name: open.tariff.name, duration_days: 30, device_limit: 2, price_minor: 999, grace_days: 0 },
    ]);
  });

  test('a tariff that was never sold is deleted', async () => {
    const { admin } = world.shop;
    const { id } = await world.shop.tariff();
    expect(await admin.tariff.remove({ tariff_id: id })).toEqual({ msg: 'tariff deleted', tariff_id: id });
    await expect(admin.tariff.get({ tariff_id: id })).rejects.toThrow('tariff_not_found');
    await expect(admin.tariff.remove({ tariff_id: id })).rejects.toThrow('tariff_not_found');
  });

  test('a tariff with a payment or a period is not deleted', async () => {
    const { shop } = world;
    const { tariff } = await shop.order();
    await expect(shop.admin.tariff.remove({ tariff_id: tariff.id })).rejects.toThrow('tariff_in_use');
    const granted = await shop.tariff();
    await shop.admin.subscription.grant({ user_id: (await shop.person()).id, tariff_id: granted.id });
    await expect(shop.admin.tariff.remove({ tariff_id: granted.id })).rejects.toThrow('tariff_in_use');
  });

  test('selling and deleting at once leaves either a sale or no tariff, and no error but the named ones', async () => {
    const { shop } = world;
    for (let round = 0; round < 5; round += 1) {
      const [tariff, user] = [await shop.tariff(), await shop.person()];
      const answers = await Promise.allSettled([
        shop.as(customer(user)).payment.create({ tariff_id: tariff.id, provider: 'standard' }),
        shop.admin.tariff.remove({ tariff_id: tariff.id }),
        shop.admin.subscription.grant({ user_id: user.id, tariff_id: tariff.id }),
      ]);
      const refusals = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason.message] : []));
      for (const code of refusals) expect(['tariff_not_found', 'tariff_in_use']).toContain(code);
      expect(answers.some(({ status }) => status === 'fulfilled')).toBe(true);
    }
  });

  test('an archived tariff is not sold or shown any more, and what was sold stays', async () => {
    const { shop } = world;
    const { tariff, payment, user } = await shop.order();
    expect(await shop.admin.tariff.archive({ tariff_id: tariff.id })).toMatchObject({ archived: true });
    expect(await shop.admin.tariff.archive({ tariff_id: tariff.id })).toMatchObject({ archived: true });
    const buyer = shop.as(customer(await shop.person()));
    await expect(buyer.tariff.get({ tariff_id: tariff.id })).rejects.toThrow('tariff_not_found');
    await expect(buyer.payment.create({ tariff_id: tariff.id, provider: 'standard' })).rejects.toThrow(
      'tariff_archived',
    );
    expect(await shop.deliver(paid(payment))).toBe('settled');
    expect(await shop.paidDays(user)).toBe(30);
  });

  test('archived tariffs are listed for an admin who asks for them, and for nobody else', async () => {
    const { shop } = world;
    const { id } = await shop.tariff();
    await shop.admin.tariff.archive({ tariff_id: id });
    const ids = (tariffs: readonly { id: number }[]) => tariffs.map((tariff) => tariff.id);
    const after_id = id - 1;
    expect(ids(await shop.admin.tariff.list({ after_id }))).not.toContain(id);
    expect(ids(await shop.admin.tariff.list({ after_id, include_archived: true }))).toContain(id);
    const anybody = shop.as({ kind: 'public' });
    await expect(anybody.tariff.list({ include_archived: true })).rejects.toThrow('admin_required');
  });

  test('a list is ordered by id, paged, and counted when asked', async () => {
    const { shop } = world;
    const made = [await shop.tariff(), await shop.tariff(), await shop.tariff()];
    const after_id = (made[0]?.id ?? 0) - 1;
    const responseHeaders = new Map<string, string>();
    const anybody = shop.as({ kind: 'public' }, { responseHeaders });
    const listed = await anybody.tariff.list({ after_id, limit: 2, with_total: true });
    expect(listed).toEqual(made.slice(0, 2));
    expect(Number(responseHeaders.get('x-total-count'))).toBeGreaterThanOrEqual(3);
    expect(await anybody.tariff.list({ after_id, skip: 2, limit: 1 })).toEqual(made.slice(2, 3));
  });

  test('every change by an admin leaves an audit row, and a refused one leaves none', async () => {
    const { shop } = world;
    const { id } = await shop.tariff();
    await shop.admin.tariff.update({ tariff_id: id, price: '5' });
    await shop.admin.tariff.archive({ tariff_id: id });
    await expect(shop.admin.tariff.update({ tariff_id: id, price: '5.555' })).rejects.toThrow();
    await shop.admin.tariff.remove({ tariff_id: id });
    const rows = await listAudit(shop.store, { target: `tariff:${id}` });
    expect(rows.map(({ action }) => action)).toEqual([
      'tariff.create',
      'tariff.update',
      'tariff.archive',
      'tariff.remove',
    ]);
    expect(rows.every(({ actor }) => /^user:\d+$/.test(actor))).toBe(true);
  });
});
