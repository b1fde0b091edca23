import { describe, expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { webhooks } from '../../../../packages/sdk/src/webhooks.ts';
import type { EventData, EventType } from '../../src/api/router.ts';
import { eventTypes } from '../../src/domain/events.ts';
import { engines } from '../harness.ts';
import { HostWorld } from '../server/host-world.ts';
import { Receiver } from './receiver.ts';
import { addEndpoint, LOOPBACK } from './world.ts';

const HOUR = 3_600;
const id = z.int().positive();
const instant = z.iso.datetime({ precision: 3 });
const amount = z.string().regex(/^\d+\.\d\d$/);

const payment = z.strictObject({
  payment_id: id,
  reference: z.string().min(20),
  user_id: id,
  tariff_id: id,
  amount,
  currency: z.string().length(3),
  status: z.enum(['pending', 'completed', 'failed', 'refunded', 'partially_refunded', 'needs_review']),
  provider: z.string(),
  provider_payment_id: z.string().nullable(),
  refunded_amount: amount.exactOptional(),
  review_reason: z.string().exactOptional(),
});
const subscription = z.strictObject({
  user_id: id,
  tariff_id: id.nullable(),
  period_id: id,
  starts_at: instant,
  ends_at: instant.nullable(),
  source: z.enum(['payment', 'admin', 'trial', 'import']),
});
const peer = z.strictObject({
  peer_id: id,
  user_id: id,
  server_id: id,
  reason: z.string().exactOptional(),
  config_version: id.exactOptional(),
  from_server_id: id.exactOptional(),
});
const user = z.strictObject({ user_id: id, email: z.string().nullable(), telegram_id: z.int().nullable() });

/** What travels, written down a second time and by hand. */
const payloads = {
  'payment.completed': payment,
  'payment.refunded': payment,
  'payment.needs_review': payment,
  'subscription.started': subscription,
  'subscription.extended': subscription,
  'subscription.expiring': subscription,
  'subscription.expired': subscription,
  'peer.active': peer,
  'peer.suspended': peer,
  'peer.config_changed': peer,
  'peer.moved': peer,
  'user.created': user,
} as const satisfies Record<EventType, z.ZodType>;

type Payloads = { readonly [Type in EventType]: z.output<(typeof payloads)[Type]> };
type KeysOf<T> = { readonly [Type in keyof T]: keyof T[Type] };

test('the types that the SDK gives to events are what travels', () => {
  expectTypeOf<Payloads>().toExtend<EventData>();
  expectTypeOf<EventData>().toExtend<Payloads>();
  expectTypeOf<KeysOf<Payloads>>().toEqualTypeOf<KeysOf<EventData>>();
});

describe.each(engines)('events on %s', (engine) => {
  test('of every type arrive with exactly the payload that their type promises', async () => {
    await using receiver = await Receiver.start();
    await using hosts = await HostWorld.start({ engine, env: LOOPBACK });
    const { app } = hosts;
    const { secret } = await addEndpoint(app, { url: receiver.url });
    const customer = await app.register();
    const tariff = { name: 'Month', duration_days: 30, price: '5.00' };
    const { id: tariff_id } = await hosts.ok<{ id: number }>('POST', '/tariffs', tariff);

    const order = async () => {
      const body = { user_id: customer.id, tariff_id, provider: 'standard' };
      const { reference } = await hosts.ok<{ reference: string }>('POST', '/payments', body);
      return { reference, provider_payment_id: `charge-${reference}`, currency: 'USD' };
    };
    const first = await order();
    await app.webhook({ type: 'payment.completed', data: { ...first, amount: '5.00' } });
    await app.webhook({ type: 'payment.refunded', data: { ...first, amount: '1.00', refund_id: 'r1' } });
    await app.webhook({ type: 'payment.completed', data: { ...(await order()), amount: '5.00' } });
    await app.webhook({ type: 'payment.completed', data: { ...(await order()), amount: '4.00' } });

    const device = await app.rest<{ id: number }>('POST', '/vpn_peers/self', { token: customer.token, body: {} });
    await app.settled();
    const { server } = await hosts.live();
    await hosts.ok('POST', `/vpn_peers/${device.body.id}/move`, { server_id: server.id });
    await app.settled();
    await hosts.ok('POST', `/users/${customer.id}/block`, {});
    await app.settled();
    // Who cannot receive reads the same.
    const listed = await hosts.ok<{ id: number }[]>('GET', '/events?after_id=1');
    expect(listed).toEqual(
      receiver.received.map(({ id: name, raw }) => ({ id: Number(name.replace('evt_', '')), ...JSON.parse(raw) })),
    );
    for (let passed = 0; passed < 60 * 24; passed += 12) {
      app.clock.advance(12 * HOUR);
      await app.server.expiryNotices.idle();
      await app.settled();
    }

    const read = receiver.received.map(({ headers, raw }) => {
      const now = new Date(Number(headers['webhook-timestamp']) * 1000);
      return webhooks.unwrap({ secret, headers, body: raw, now });
    });
    expect(await Promise.all(read)).toEqual(
      receiver.received.map(({ id: name, raw }) => ({ id: name, ...JSON.parse(raw) })),
    );
    expect([...new Set(receiver.types)].sort()).toEqual([...eventTypes].sort());
    for (const { type, data } of receiver.received) {
      const { error } = payloads[type as EventType].safeParse(data);
      expect(error?.issues, `${type} ${JSON.stringify(data)}`).toBeUndefined();
    }
    const [event] = receiver.received;
    const body = JSON.parse(event?.raw ?? '');
    expect(Object.keys(body)).toEqual(['type', 'timestamp', 'data']);
    expect(instant.safeParse(body.timestamp).success).toBe(true);
  });
});
