import { describe, expect, test } from 'vitest';
import { epochMs, type Instant, toInstant } from '../../src/domain/instant.ts';
import type { Clock } from '../../src/services.ts';
import { World } from '../api/world.ts';
import { addDevice, ok, pay } from '../e2e/shop.ts';
import { engines, START, startApp } from '../harness.ts';

/** Time that passes between any two looks at it, as it does on a busy server. Nothing ever comes due. */
class RunningClock implements Clock {
  #ms = epochMs(START as Instant);

  now(): Instant {
    this.#ms += 1;
    return toInstant(this.#ms);
  }

  at(): () => void {
    return () => {};
  }
}

interface Subscription {
  readonly status: string;
  readonly days_remaining: number;
}

describe.each(engines)('while time runs, on %s', (engine) => {
  test('what was granted is active in the very answer, and in its repeat', async () => {
    await using app = await startApp({ engine, clock: new RunningClock() });
    const world = await World.open(app);
    const owner = await world.account();
    const options = { token: world.boss.token, headers: { 'idempotency-key': 'once' } };
    const body = { user_id: owner.id, tariff_id: world.tariff.id };
    const grant = () => ok(app.rest<Subscription>('POST', '/subscriptions/grant', { ...options, body }));
    const granted = await grant();
    expect(granted).toMatchObject({ status: 'active', days_remaining: 30 });
    expect(await grant()).toEqual(granted);

    const other = await world.account();
    const assign = () =>
      ok(
        app.rest<{ subscription: Subscription }>('POST', '/auth/assign_tariff', {
          ...options,
          body: { ...body, user_id: other.id },
        }),
      );
    const assigned = await assign();
    expect(assigned.subscription).toMatchObject({ status: 'active', days_remaining: 30 });
    expect(await assign()).toEqual(assigned);
  });

  test('a device can be added right after the payment, and is allowed in the very answer', async () => {
    await using app = await startApp({ engine, clock: new RunningClock() });
    const world = await World.open(app);
    const { token } = await world.account();
    await pay(app, token, world.tariff);
    const { id } = await addDevice(app, token);
    const status = await ok(app.rest('GET', `/vpn_peers/${id}/status`, { token }));
    expect(status).toMatchObject({ allowed: true, reason: 'active' });
  });
});
