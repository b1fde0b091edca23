import { updateTariffRow } from '@vpn-api/db';
import { engines } from '@vpn-api/db/testing';
import { describe, expect, test } from 'vitest';
import { codeFrom, problemFrom, race, START, World } from './world.ts';

const DAY = 86_400;

describe.each(engines)('the own subscription on %s', (engine) => {
  test('is null without one, and again once it is over', async () => {
    await using world = await World.open(engine);
    const [admin, alice, tariff] = [await world.admin(), await world.person(), await world.tariff()];
    expect(await alice.api.auth.subscription()).toBeNull();
    await admin.api.auth.assignTariff({ user_id: alice.id, tariff_id: tariff.id });
    world.clock.advance(60);
    const subscription = await alice.api.auth.subscription();
    expect(subscription).toMatchObject({ status: 'active', tariff_name: 'Month', days_remaining: 29, price: '9.99' });
    world.clock.advance(30 * DAY);
    const later = await world.as().auth.login({ email: alice.email, password: 'Password123!' });
    expect(await world.as(later.access_token).auth.subscription()).toBeNull();
  });
});

describe.each(engines)('assigning a tariff on %s', (engine) => {
  test('D39: an admin gives a user a tariff, behind what he has', async () => {
    await using world = await World.open(engine);
    const [admin, alice, tariff] = [await world.admin(), await world.person(), await world.tariff()];
    const assign = () => admin.api.auth.assignTariff({ user_id: alice.id, tariff_id: tariff.id });
    expect(await assign()).toMatchObject({
      msg: 'tariff assigned',
      user_id: alice.id,
      tariff_id: tariff.id,
      subscription: { started_at: START, ended_at: '2026-12-22T12:00:00.000Z' },
    });
    expect(await assign()).toMatchObject({ subscription: { ended_at: '2027-01-21T12:00:00.000Z' } });
    expect(world.wakes).toBe(2);
  });

  test('a key with the scope may, for users and not for admins', async () => {
    await using world = await World.open(engine);
    const [admin, alice, tariff] = [await world.admin(), await world.person(), await world.tariff()];
    const bot = await world.bot(admin, ['subscriptions:write']);
    const other = await world.bot(admin, ['subscriptions:read']);
    const order = { user_id: alice.id, tariff_id: tariff.id };
    expect(await bot.auth.assignTariff(order)).toMatchObject({ msg: 'tariff assigned' });
    expect(await codeFrom(bot.auth.assignTariff({ ...order, user_id: admin.id }))).toBe('not_allowed');
    expect(await codeFrom(other.auth.assignTariff(order))).toBe('scope_required');
    expect(await codeFrom(alice.api.auth.assignTariff(order))).toBe('admin_required');
  });

  test('names what is missing', async () => {
    await using world = await World.open(engine);
    const [admin, tariff] = [await world.admin(), await world.tariff()];
    const assign = admin.api.auth.assignTariff;
    expect(await problemFrom(assign({ user_id: 999, tariff_id: tariff.id }))).toMatchObject({
      status: 404,
      detail: 'User not found',
    });
    expect(await problemFrom(assign({ user_id: admin.id, tariff_id: 999 }))).toMatchObject({
      status: 404,
      detail: 'Tariff not found',
    });
  });

  test('a repeat with the same Idempotency-Key gives the tariff once', async () => {
    await using world = await World.open(engine);
    const [admin, alice, tariff] = [await world.admin(), await world.person(), await world.tariff()];
    const keyed = world.as(admin.access_token, { idempotencyKey: 'order-1' });
    const order = { user_id: alice.id, tariff_id: tariff.id };
    const first = await keyed.auth.assignTariff(order);
    expect(await keyed.auth.assignTariff(order)).toEqual(first);
    expect((await alice.api.auth.subscription())?.periods).toHaveLength(1);
    expect(await codeFrom(keyed.auth.assignTariff({ ...order, user_id: admin.id }))).toBe('idempotency_key_reused');
  });
});

describe.each(engines)('self-service subscription on %s', (engine) => {
  test('D2: nobody gives himself a tariff, unless the operator allows it for a demo', async () => {
    await using world = await World.open(engine);
    const [alice, tariff] = [await world.person(), await world.tariff()];
    const refusal = await problemFrom(alice.api.auth.subscribe({ tariff_id: tariff.id }));
    expect(refusal).toMatchObject({ status: 403, detail: 'Not allowed' });
    expect(await alice.api.auth.subscription()).toBeNull();
  });

  test('where it is allowed, it answers as the old service did', async () => {
    await using world = await World.open(engine, { env: { ALLOW_SELF_SUBSCRIBE: '1' } });
    const [alice, tariff] = [await world.person(), await world.tariff()];
    const answer = await alice.api.auth.subscribe({ tariff_id: tariff.id });
    expect(answer).toEqual({
      msg: 'subscription activated',
      user_tariff_id: expect.any(Number),
      tariff_id: tariff.id,
      started_at: START,
      ended_at: '2026-12-22T12:00:00.000Z',
    });
    expect(await alice.api.auth.subscription()).toMatchObject({ id: answer.user_tariff_id });
  });

  test('an unknown or archived tariff is not given', async () => {
    await using world = await World.open(engine, { env: { ALLOW_SELF_SUBSCRIBE: '1' } });
    const [alice, tariff] = [await world.person(), await world.tariff()];
    await world.store.transaction((tx) => updateTariffRow(tx, tariff.id, { archived_at: START }));
    expect(await codeFrom(alice.api.auth.subscribe({ tariff_id: 999 }))).toBe('tariff_not_found');
    expect(await codeFrom(alice.api.auth.subscribe({ tariff_id: tariff.id }))).toBe('tariff_archived');
  });

  test('D37: parallel subscriptions follow each other, none lies beside another', async () => {
    await using world = await World.open(engine, { env: { ALLOW_SELF_SUBSCRIBE: '1' } });
    const [alice, tariff] = [await world.person(), await world.tariff()];
    const { answers, codes } = await race(12, () => alice.api.auth.subscribe({ tariff_id: tariff.id }));
    expect(codes).toEqual([]);
    const periods = answers.toSorted((a, b) => (a.started_at < b.started_at ? -1 : 1));
    for (const [index, { started_at }] of periods.entries()) {
      expect(started_at).toBe(index === 0 ? START : periods[index - 1]?.ended_at);
    }
  });
});
