import { insertOutboxEvent, listWebhookDeliveries, type Tx } from '@vpn-api/db';
import { OutboundGuard } from '@vpn-api/wg';
import { describe, test } from 'vitest';
import { OutboxLoops } from '../../src/jobs/outbox.ts';
import { WebhookSender } from '../../src/ops/send-webhook.ts';
import { createWebhookEndpoint } from '../../src/ops/webhook-endpoints.ts';
import { engines } from '../harness.ts';
import { accept, answer, type Behaviour, hang, Receiver, vanish } from '../outbox/receiver.ts';
import { Shop } from '../payment/shop.ts';
import { Dice } from './dice.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';

const RECEIVERS = 5;
const ALLOWED = ['127.0.0.1/32'];
/** Impatient, so that receivers that hang cost milliseconds here and not quarters of a minute. */
const TIMEOUT_MS = 60;
const admin = { actor: 'user:1', ip: '127.0.0.1', request_id: 'r' };

describe.each(engines)('receivers of every bad manner, on %s', { timeout: SCENARIO_TIMEOUT_MS }, (engine) => {
  test('get every event, in order, or leave it dead in plain sight, and nothing goes where it must not', async () => {
    const start = performance.now();
    const dice = new Dice(seed);
    await using forbidden = await Receiver.start('127.0.0.2');
    await using shop = await Shop.open(engine, { OUTBOUND_ALLOW: ALLOWED.join() });
    await using cleanup = new AsyncDisposableStack();
    const receivers: Receiver[] = [];
    for (let n = 0; n < RECEIVERS; n += 1) receivers.push(cleanup.use(await Receiver.start()));
    const sender = cleanup.use(new WebhookSender(new OutboundGuard(ALLOWED), TIMEOUT_MS));
    const loops = cleanup.use(new OutboxLoops({ ...shop.services, instanceId: 'one', sender }));
    const beforeCommit = async () => {};
    const endpoints = [];
    for (const { url } of receivers) {
      const input = { url, description: null, types: null };
      endpoints.push((await createWebhookEndpoint(shop.services, input, { source: admin, beforeCommit })).row);
    }
    const manners: readonly Behaviour[] = [
      ...[accept, accept, accept, vanish, hang, answer(500), answer(503, { 'retry-after': '60' })],
      answer(302, { location: forbidden.url }),
    ];
    await loops.start();
    for (let told = 0; told < scale.outgoingEvents; told += 1) {
      await shop.store.transaction((tx) => tell(tx, told, shop.clock.now()));
      if (!dice.chance(0.3)) continue;
      for (const receiver of receivers) receiver.behaviour = dice.pick(manners);
      loops.wake();
      await loops.idle();
      shop.clock.advance(dice.between(1, 400));
      await loops.idle();
    }
    // One receiver never comes round; the others do.
    for (const [n, receiver] of receivers.entries()) receiver.behaviour = n === 0 ? vanish : accept;
    for (let hour = 0; hour < 40; hour += 1) {
      loops.wake();
      await loops.idle();
      shop.clock.advance(3_600);
      await loops.idle();
    }
    const violations = forbidden.received.map(({ id }) => `${id} reached a forbidden address`);
    let delivered = 0;
    let dead = 0;
    for (const [n, { id }] of endpoints.entries()) {
      const rows = await listWebhookDeliveries(shop.store, { endpointId: id }, { limit: scale.outgoingEvents + 1 });
      if (rows.length !== scale.outgoingEvents) violations.push(`endpoint ${n} has ${rows.length} deliveries`);
      delivered += rows.filter(({ status }) => status === 'delivered').length;
      dead += rows.filter(({ status }) => status === 'dead').length;
      const undecided = rows.filter(({ status }) => status === 'pending').length;
      if (undecided > 0) violations.push(`endpoint ${n} still waits for ${undecided} events`);
      violations.push(...disorder(receivers[n] as Receiver, n));
      const arrived = new Set(receivers[n]?.received.map((event) => event.data.n));
      for (const { status, event_id } of rows) {
        if (status === 'delivered' && !arrived.has(event_id)) violations.push(`event ${event_id} is lost for ${n}`);
      }
    }
    report({
      id: 'Outbox',
      title: 'Events to receivers that fail, hang, redirect or vanish',
      engine,
      seed,
      counts: { events: scale.outgoingEvents, receivers: RECEIVERS, delivered, dead },
      violations,
      seconds: secondsSince(start),
    });
  });
});

async function tell(tx: Tx, told: number, now: string): Promise<void> {
  await insertOutboxEvent(tx, { type: 'user.created', payload: JSON.stringify({ n: told + 1 }), created_at: now });
}

/** First arrivals must come in the order of the events; repeats of the one under way may come in between. */
function disorder({ received }: Receiver, n: number): string[] {
  let last = 0;
  return received.flatMap(({ data }) => {
    const event = Number(data.n);
    const isBackwards = event < last;
    last = Math.max(last, event);
    return isBackwards ? [`endpoint ${n} got event ${event} behind ${last}`] : [];
  });
}
