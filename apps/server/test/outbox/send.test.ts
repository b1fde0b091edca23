import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { OutboundGuard } from '@vpn-api/wg';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { WebhookSender } from '../../src/ops/send-webhook.ts';
import { answer, Receiver } from './receiver.ts';

/** What the resolver of a receiver answers, one after another. */
const names = vi.hoisted(() => ({ answers: [] as string[][] }));

vi.mock('node:dns', async (importOriginal) => ({
  ...(await importOriginal<typeof import('node:dns')>()),
  lookup: (_name: string, _options: object, done: (error: null, found: { address: string; family: 4 }[]) => void) => {
    const found = (names.answers.shift() ?? []).map((address) => ({ address, family: 4 as const }));
    setImmediate(() => done(null, found));
  },
}));

const GOOD = '127.0.0.1';
const EVIL = '127.0.0.2';
const TIMEOUT_MS = 150;

const webhook = (url: string) => ({
  url,
  id: 'evt_1',
  body: '{"type":"user.created"}',
  secrets: ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'],
  now: '2026-11-22T12:00:00.000Z' as never,
});
const never = new AbortController().signal;
const openSender = () => new WebhookSender(new OutboundGuard([`${GOOD}/32`]), TIMEOUT_MS);

describe('a receiver whose name', () => {
  const receivers: Receiver[] = [];

  beforeEach(async () => {
    const good = await Receiver.start(GOOD);
    receivers.push(good, await Receiver.start(EVIL, Number(new URL(good.url).port)));
  });
  afterEach(() => Promise.all(receivers.splice(0).map((receiver) => receiver[Symbol.asyncDispose]())));

  const url = () => `http://hooks.example:${new URL(receivers[0]?.url ?? '').port}/hook`;
  const counts = () => receivers.map(({ received }) => received.length);

  test('changes to a private address gets nothing there, be it on the next event or on the next attempt', async () => {
    names.answers = [[GOOD], [EVIL], [EVIL, GOOD]];
    const [good] = receivers;
    if (good !== undefined) good.behaviour = answer(204, { connection: 'close' });
    await using sender = openSender();
    expect(await sender.send(webhook(url()), never)).toEqual({ kind: 'delivered', status: 204 });
    expect(await sender.send(webhook(url()), never)).toMatchObject({
      kind: 'failed',
      error: expect.stringContaining('private'),
    });
    // Of several addresses only those that were checked are tried.
    expect(await sender.send(webhook(url()), never)).toMatchObject({ kind: 'delivered' });
    expect(counts()).toEqual([2, 0]);
  });
});

describe('a receiver that answers', () => {
  let server: Server;
  let url = '';
  /** Writes byte by byte what it has to say, and then for ever more of the same. */
  let drip = (_socket: Socket): void => {};
  const timers = new Set<NodeJS.Timeout>();

  beforeEach(async () => {
    server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => drip(socket));
    }).listen(0, GOOD);
    await once(server, 'listening');
    url = `http://${GOOD}:${(server.address() as { port: number }).port}/hook`;
  });
  afterEach(() => {
    for (const timer of timers) clearInterval(timer);
    server.close();
  });

  function dripping(head: string, byte: string): void {
    drip = (socket) => {
      socket.write(head);
      timers.add(setInterval(() => socket.write(byte), 5));
    };
  }

  test('its head byte by byte is given up in time', async () => {
    dripping('HTTP/1.1 200 OK\r\nx-slow: ', 'a');
    await using sender = openSender();
    const start = performance.now();
    expect(await sender.send(webhook(url), never)).toEqual({ kind: 'failed', error: 'no answer in time' });
    expect(performance.now() - start).toBeLessThan(20 * TIMEOUT_MS);
  });

  test('its body byte by byte, or without an end, has answered, and is heard no longer than that', async () => {
    for (const byte of ['a', 'a'.repeat(64 * 1024)]) {
      dripping('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n', byte);
      await using sender = openSender();
      const start = performance.now();
      expect(await sender.send(webhook(url), never)).toEqual({ kind: 'delivered', status: 200 });
      expect(performance.now() - start).toBeLessThan(20 * TIMEOUT_MS);
    }
  });

  test('with a redirect to an address in the open is not followed there either', async () => {
    await using elsewhere = await Receiver.start(GOOD);
    drip = (socket) =>
      socket.end(`HTTP/1.1 308 x\r\nlocation: ${elsewhere.url}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
    await using sender = openSender();
    expect(await sender.send(webhook(url), never)).toMatchObject({ kind: 'failed', status: 308 });
    expect(elsewhere.received).toEqual([]);
  });
});
