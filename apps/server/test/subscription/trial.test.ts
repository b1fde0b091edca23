import { type Engine, findUserById, listAudit, type UserRow } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { addSeconds } from '../../src/domain/instant.ts';
import { removeUser } from '../../src/ops/remove-user.ts';
import { customer, DAY, paid, Shop, service, useShop } from '../payment/shop.ts';

const source = { actor: 'user:1', ip: '192.0.2.1', request_id: 'request-1' };

/** A shop of its own with one trial of three days. */
async function openShop(engine: Engine) {
  const shop = await Shop.open(engine);
  await shop.hireAdmin();
  return { shop, trial: await shop.tariff({ trial: true, duration_days: 3, grace_days: 1 }) };
}

describe.each(engines)('a trial on %s', (engine) => {
  const world = useShop(engine);
  let telegramId = 1000;
  const newTelegramId = () => {
    telegramId += 1;
    return telegramId;
  };

  async function trialTariff() {
    return world.shop.tariff({ trial: true, duration_days: 3 });
  }

  const start = (user: UserRow, tariffId: number) =>
    world.shop.as(customer(user)).subscription.startTrial({ tariff_id: tariffId });

  test('starts at once, is noted, and needs no name where there is one', async () => {
    const { shop, trial } = await openShop(engine);
    await using _ = shop;
    const user = await shop.person();
    const now = shop.clock.now();
    expect(await shop.as(customer(user)).subscription.startTrial({})).toMatchObject({
      status: 'active',
      tariff_id: trial.id,
      started_at: now,
      ended_at: addSeconds(now, 3 * DAY),
      periods: [{ source: 'trial', payment_id: null }],
    });
    const [entry] = await listAudit(shop.store, { action: 'subscription.trial', target: `user:${user.id}` });
    expect(entry?.actor).toBe(`user:${user.id}`);
  });

  test('must be named where there are several, and must be one', async () => {
    const { shop } = world;
    const [one, two] = [await trialTariff(), await trialTariff()];
    const user = shop.as(customer(await shop.person())).subscription;
    await expect(user.startTrial({})).rejects.toThrow('trial_not_available');
    await expect(user.startTrial({ tariff_id: (await shop.tariff()).id })).rejects.toThrow('trial_not_available');
    await expect(user.startTrial({ tariff_id: 2_000_000_000 })).rejects.toThrow('tariff_not_found');
    await shop.admin.tariff.archive({ tariff_id: two.id });
    await expect(user.startTrial({ tariff_id: two.id })).rejects.toThrow('trial_not_available');
    expect(await user.startTrial({ tariff_id: one.id })).toMatchObject({ status: 'active' });
  });

  test('is for once, whichever it is and however long ago', async () => {
    const { shop } = world;
    const [one, two] = [await trialTariff(), await trialTariff()];
    const user = await shop.person();
    await start(user, one.id);
    await expect(start(user, one.id)).rejects.toThrow('trial_used');
    shop.clock.advance(400 * DAY);
    await expect(start(user, two.id)).rejects.toThrow('trial_used');
    expect(await shop.periods(user)).toHaveLength(1);
  });

  test('is for those who never had a subscription, paid or given', async () => {
    const { shop } = world;
    const trial = await trialTariff();
    const { user, payment } = await shop.order();
    await shop.deliver(paid(payment));
    await expect(start(user, trial.id)).rejects.toThrow('trial_used');
    const given = await shop.person();
    await shop.admin.subscription.grant({ user_id: given.id, tariff_id: (await shop.tariff()).id });
    await expect(start(given, trial.id)).rejects.toThrow('trial_used');
  });

  test('is given once to fifty impatient calls', async () => {
    const { shop } = world;
    const trial = await trialTariff();
    const user = await shop.person({ telegram_id: newTelegramId() });
    const results = await Promise.allSettled(Array.from({ length: 50 }, () => start(user, trial.id)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const reasons = results.filter((result) => result.status === 'rejected').map(({ reason }) => reason.message);
    expect(new Set(reasons)).toEqual(new Set(['trial_used']));
    expect(await shop.periods(user)).toHaveLength(1);
  });

  test('stays used for a Telegram id whose account was removed and made again', async () => {
    const { shop } = world;
    const trial = await trialTariff();
    const telegram_id = newTelegramId();
    const first = await shop.person({ telegram_id });
    await start(first, trial.id);
    await removeUser(shop.services, { userId: first.id, source });
    const second = await shop.person({ telegram_id });
    await expect(start(second, trial.id)).rejects.toThrow('trial_used');
    const claims = await shop.store.kysely
      .selectFrom('trial_claims')
      .selectAll()
      .where('user_id', '=', first.id)
      .execute();
    expect(JSON.stringify(claims)).not.toContain(String(telegram_id));
  });

  test('stays used for a Telegram id that the account got after its trial', async () => {
    const { shop } = world;
    const trial = await trialTariff();
    const telegram_id = newTelegramId();
    const first = await shop.person();
    await start(first, trial.id);
    await shop.store.kysely.updateTable('users').set({ telegram_id }).where('id', '=', first.id).execute();
    await removeUser(shop.services, { userId: first.id, source });
    expect((await findUserById(shop.store, first.id))?.telegram_id).toBeNull();
    await expect(start(await shop.person({ telegram_id }), trial.id)).rejects.toThrow('trial_used');
  });

  test('is started by a service for a user it names, never for an admin', async () => {
    const { shop } = world;
    const trial = await trialTariff();
    const user = await shop.person();
    const bot = shop.as(service).subscription;
    await expect(bot.startTrial({ tariff_id: trial.id })).rejects.toThrow('validation_failed');
    const [admin, gone] = [await shop.person({ role: 'admin' }), 2_000_000_000];
    await expect(bot.startTrial({ tariff_id: trial.id, user_id: admin.id })).rejects.toThrow('not_allowed');
    await expect(bot.startTrial({ tariff_id: trial.id, user_id: gone })).rejects.toThrow('user_not_found');
    expect(await bot.startTrial({ tariff_id: trial.id, user_id: user.id })).toMatchObject({ user_id: user.id });
    const other = shop.as(customer(await shop.person())).subscription;
    await expect(other.startTrial({ tariff_id: trial.id, user_id: user.id })).rejects.toThrow('not_allowed');
  });

  test('cannot be bought, by its id or by its price', async () => {
    const { shop } = world;
    const trial = await shop.tariff({ trial: true, price: '0.37' });
    const { payment } = shop.as(customer(await shop.person()));
    const wanted = { tariff_id: trial.id, provider: 'standard' };
    await expect(payment.create(wanted)).rejects.toThrow('trial_not_for_sale');
    await expect(payment.quote(wanted)).rejects.toThrow('trial_not_for_sale');
    await expect(payment.create({ amount: '0.37', currency: 'USD', provider: 'standard' })).rejects.toThrow(
      'tariff_required',
    );
  });

  test('keeps its rest when a tariff is paid meanwhile, which starts at once', async () => {
    const { shop } = world;
    const trial = await trialTariff();
    const user = await shop.person();
    await start(user, trial.id);
    shop.clock.advance(DAY);
    const now = shop.clock.now();
    const { payment } = await shop.order({ user });
    await shop.deliver(paid(payment));
    expect(await shop.periods(user)).toMatchObject([
      { source: 'trial', ends_at: now },
      { source: 'payment', starts_at: now },
      { source: 'trial', starts_at: addSeconds(now, 30 * DAY), ends_at: addSeconds(now, 32 * DAY) },
    ]);
  });

  test('with grace lets go when the grace ends, which moves no paid date', async () => {
    const { shop, trial } = await openShop(engine);
    await using _ = shop;
    const user = await shop.person();
    await shop.as(customer(user)).subscription.startTrial({ tariff_id: trial.id });
    const [{ ends_at: end = null } = {}] = await shop.periods(user);
    shop.clock.advance(3 * DAY + 3600);
    const list = () => shop.admin.subscription.list({ user_id: user.id });
    expect(await list()).toMatchObject([{ status: 'grace', ended_at: end }]);
    const { payment } = await shop.order({ user });
    await shop.deliver(paid(payment));
    const now = shop.clock.now();
    expect(await shop.periods(user)).toMatchObject([
      { ends_at: end },
      { starts_at: now, ends_at: addSeconds(now, 30 * DAY) },
    ]);
  });
});
