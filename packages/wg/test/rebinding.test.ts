import { createServer, type Server } from 'node:http';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { OutboundGuard } from '../src/outbound.ts';
import { SshTransport } from '../src/shell/ssh-transport.ts';
import { openWgEasyDriver } from '../src/wg-easy/wg-easy-driver.ts';
import { RecordingSshd } from './recording-sshd.ts';
import { startWgEasyStub, type WgEasyStub } from './wg-easy/stub.ts';

/** What the resolver of somebody else answers, one after another; the last for ever. */
const names = vi.hoisted(() => ({ answers: [] as string[][], asked: 0 }));

vi.mock('node:dns', async (importOriginal) => ({
  ...(await importOriginal<typeof import('node:dns')>()),
  lookup: (_name: string, _options: object, done: (error: null, found: { address: string; family: 4 }[]) => void) => {
    const answer = names.answers[Math.min(names.asked, names.answers.length - 1)] ?? [];
    names.asked += 1;
    setImmediate(() =>
      done(
        null,
        answer.map((address) => ({ address, family: 4 })),
      ),
    );
  },
}));

const NAME = 'rebind.example';
const [GOOD, EVIL] = ['127.0.0.1', '127.0.0.2'];
const allowed = ['127.0.0.1/32'];
const signal = () => AbortSignal.timeout(10_000);

let stub: WgEasyStub;
let port: number;
/** On the same port of the address that must not be reached. */
let evil: Server;
let evilCalls = 0;

beforeAll(async () => {
  stub = await startWgEasyStub({ version: 14, clients: 1 });
  port = Number(new URL(stub.url).port);
  evil = createServer((_, response) => response.end('secrets')).on('connection', () => {
    evilCalls += 1;
  });
  await new Promise<void>((resolve) => evil.listen(port, EVIL, resolve));
});

afterAll(async () => {
  evil.close();
  await stub[Symbol.asyncDispose]();
});

beforeEach(() => {
  evilCalls = 0;
  names.asked = 0;
});

test('a name that answers otherwise the second time is asked once, and the address that was checked is called', async () => {
  names.answers = [[GOOD], [EVIL]];
  const agent = new Agent({ connect: new OutboundGuard(allowed).connector() });
  try {
    const { statusCode } = await request(`http://${NAME}:${port}/api/release`, { dispatcher: agent });
    expect([statusCode, names.asked]).toEqual([200, 1]);
  } finally {
    await agent.destroy();
  }
  expect(evilCalls).toBe(0);
});

test('of several addresses only those that may be called are tried', async () => {
  names.answers = [[EVIL, GOOD, EVIL]];
  await using driver = openWgEasyDriver({
    url: `http://${NAME}:${port}`,
    password: stub.password,
    allowPrivate: allowed,
  });
  await expect(driver.list(signal())).resolves.toHaveLength(1);
  expect(evilCalls).toBe(0);
});

test('a wg-easy whose name has come to mean another address is not called, and gets no password', async () => {
  names.answers = [[GOOD]];
  const open = () =>
    openWgEasyDriver({ url: `http://${NAME}:${port}`, password: stub.password, allowPrivate: allowed });
  await using before = open();
  await expect(before.list(signal())).resolves.toHaveLength(1);
  names.answers = [[EVIL]];
  await using after = open();
  await expect(after.list(signal())).rejects.toMatchObject({ code: 'refused' });
  expect(evilCalls).toBe(0);
});

test('an SSH host is connected to at the address that was checked', async () => {
  await using sshd = await RecordingSshd.start();
  const options = { ...sshd.options, host: NAME, outbound: new OutboundGuard(allowed) };
  names.answers = [[GOOD], [EVIL]];
  await using first = new SshTransport(options);
  expect((await first.run('true', '', signal())).code).toBe(0);
  expect(names.asked).toBe(1);
  await using second = new SshTransport(options);
  await expect(second.run('true', '', signal())).rejects.toMatchObject({ code: 'unreachable' });
  expect(sshd.connections).toBe(1);
});
