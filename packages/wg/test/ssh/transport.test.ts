import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { DriverError } from '../../src/driver.ts';
import { OutboundGuard } from '../../src/outbound.ts';
import { hostKeyFingerprint, knownHostFingerprints } from '../../src/shell/known-hosts.ts';
import { SshTransport } from '../../src/shell/ssh-transport.ts';
import { makeSshKey, RecordingSshd } from '../recording-sshd.ts';

const signal = () => AbortSignal.timeout(20_000);
const coded = (code: string) => (error: unknown) => error instanceof DriverError && error.code === code;

describe('the SSH transport', () => {
  test('output and exit code come back, stdin goes in', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    const result = await transport.run('cat; echo oops >&2; exit 3', 'hello', signal());
    expect(result).toEqual({ code: 3, stdout: 'hello', stderr: 'oops\n' });
    expect(sshd.runs).toEqual([{ command: 'cat; echo oops >&2; exit 3', stdin: 'hello' }]);
  });

  test('megabytes pass both ways unchanged', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    const text = Array.from({ length: 60_000 }, (_, n) => `line ${n} of a long batch\n`).join('');
    expect((await transport.run('cat', text, signal())).stdout).toBe(text);
  });

  test('nothing is connected before the first command', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    expect(sshd.connections).toBe(0);
    await transport.run('true', '', signal());
    expect(sshd.connections).toBe(1);
  });

  test('twenty commands at once share one connection and at most eight channels', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, n) => transport.run(`cat; exit ${n}`, `${n}`, signal())),
    );
    expect(results.map(({ code, stdout }) => [code, stdout])).toEqual(results.map((_, n) => [n, `${n}`]));
    expect(sshd.connections).toBe(1);
    expect(sshd.mostChannels).toBeLessThanOrEqual(8);
  });

  test('a host that allows fewer channels gets fewer', async () => {
    await using sshd = await RecordingSshd.start({ maxSessions: 2 });
    await using transport = new SshTransport(sshd.options);
    const run = (n: number) => transport.run('sleep 0.1; cat', `${n}`, signal());
    const results = await Promise.all(Array.from({ length: 12 }, (_, n) => run(n)));
    expect(results.map(({ stdout }) => stdout)).toEqual(results.map((_, n) => `${n}`));
    expect(sshd.connections).toBe(1);
    // It is learnt from the first answers, and not asked for again and again.
    expect(sshd.refusedChannels).toBeLessThan(8);
  });

  test('a host that opens no channel at all refuses', async () => {
    await using sshd = await RecordingSshd.start();
    sshd.fault = 'refuse_channels';
    await using transport = new SshTransport(sshd.options);
    await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('refused'));
    sshd.fault = null;
    expect((await transport.run('true', '', signal())).code).toBe(0);
  });

  test('a command that prints without end is stopped, and the connection still serves', async () => {
    await using sshd = await RecordingSshd.start({
      execute: async () => ({ code: 0, stdout: 'x'.repeat(200_000), stderr: '' }),
    });
    await using transport = new SshTransport({ ...sshd.options, maxStdoutBytes: 100_000 });
    await expect(transport.run('cat /dev/zero', '', signal())).rejects.toSatisfy(coded('bad_answer'));
    await expect(transport.run('again', '', signal())).rejects.toSatisfy(coded('bad_answer'));
    expect(sshd.connections).toBe(1);
  });

  test('an abort ends the command and not the connection', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    await transport.run('true', '', signal());
    sshd.fault = 'hang';
    const controller = new AbortController();
    const hanging = transport.run('sleep 600', '', controller.signal);
    controller.abort();
    await expect(hanging).rejects.toSatisfy(coded('timeout'));
    sshd.fault = null;
    expect((await transport.run('true', '', signal())).code).toBe(0);
    expect(sshd.connections).toBe(1);
  });

  test('a command that is aborted before its channel is there gets no input', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    await transport.run('true', '', signal());
    const controller = new AbortController();
    const running = transport.run('cat', 'what must not be done any more', controller.signal);
    // The request is on its way, its answer is not here.
    await Promise.resolve();
    controller.abort();
    await expect(running).rejects.toSatisfy(coded('timeout'));
    expect((await transport.run('true', '', signal())).code).toBe(0);
    expect(sshd.runs.map(({ stdin }) => stdin).join('')).toBe('');
  });

  test('waiting for a channel ends with the signal, and takes no place', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport({ ...sshd.options, maxChannels: 1 });
    sshd.fault = 'hang';
    const [first, second] = [new AbortController(), new AbortController()];
    const hanging = transport.run('one', '', first.signal);
    const waiting = transport.run('two', '', second.signal);
    second.abort();
    await expect(waiting).rejects.toSatisfy(coded('timeout'));
    first.abort();
    await expect(hanging).rejects.toSatisfy(coded('timeout'));
    sshd.fault = null;
    expect((await transport.run('true', '', signal())).code).toBe(0);
  });

  test('disposing aborts what runs and lets the process end', async () => {
    await using sshd = await RecordingSshd.start();
    const transport = new SshTransport(sshd.options);
    await transport.run('true', '', signal());
    sshd.fault = 'hang';
    const hanging = transport.run('sleep 600', '', signal());
    const rejected = expect(hanging).rejects.toSatisfy(coded('timeout'));
    await transport[Symbol.asyncDispose]();
    await rejected;
    await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('timeout'));
  });

  test('disposing while it connects, or after the connection died, leaves no connection behind', async () => {
    await using sshd = await RecordingSshd.start();
    const connecting = new SshTransport(sshd.options);
    const running = connecting.run('true', '', signal());
    const rejected = expect(running).rejects.toSatisfy(coded('timeout'));
    await connecting[Symbol.asyncDispose]();
    await rejected;
    const dead = new SshTransport(sshd.options);
    await dead.run('true', '', signal());
    sshd.cutAll();
    await dead[Symbol.asyncDispose]();
    await expect.poll(() => sshd.open).toBe(0);
  });

  test('an idle connection is closed, and the next command opens another', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport({ ...sshd.options, idleMs: 1 });
    await transport.run('true', '', signal());
    await expect.poll(() => sshd.open).toBe(0);
    expect((await transport.run('true', '', signal())).code).toBe(0);
    expect(sshd.connections).toBe(2);
  });
});

describe('a connection that dies', () => {
  test.each(['cut_before_command', 'cut_in_stdin', 'cut_after_command'] as const)(
    '%s: no exit code, no crash, and the next command gets a new connection',
    async (fault) => {
      await using sshd = await RecordingSshd.start();
      await using transport = new SshTransport(sshd.options);
      sshd.fault = fault;
      expect(await transport.run('cat', 'some input', signal())).toMatchObject({ code: null });
      sshd.fault = null;
      expect(await transport.run('cat', 'again', signal())).toMatchObject({ code: 0, stdout: 'again' });
      expect(sshd.connections).toBe(2);
    },
  );

  test('all commands that were under way have no exit code', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    await transport.run('true', '', signal());
    sshd.fault = 'hang';
    const hanging = Array.from({ length: 5 }, () => transport.run('sleep 600', '', signal()));
    await expect.poll(() => sshd.runs.length).toBe(6);
    sshd.cutAll();
    expect((await Promise.all(hanging)).map(({ code }) => code)).toEqual([null, null, null, null, null]);
  });

  test('one that dies before the channel is there leaves the outcome unknown, too', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    await transport.run('true', '', signal());
    sshd.fault = 'cut_before_channel';
    expect(await transport.run('cat', 'some input', signal())).toMatchObject({ code: null });
    sshd.fault = null;
    expect((await transport.run('true', '', signal())).code).toBe(0);
  });

  test('one that does not even confirm the end of an aborted command is given up', async () => {
    await using sshd = await RecordingSshd.start();
    await using cable = await layCable(sshd.port);
    await using transport = new SshTransport({ ...sshd.options, port: cable.port });
    await transport.run('true', '', signal());
    sshd.fault = 'hang';
    const controller = new AbortController();
    const aborted = transport.run('sleep 600', '', controller.signal);
    await expect.poll(() => sshd.runs.length).toBe(2);
    cable.silence();
    sshd.fault = null;
    controller.abort();
    await expect(aborted).rejects.toSatisfy(coded('timeout'));
    expect(await transport.run('true', '', signal())).toMatchObject({ code: null });
    expect((await transport.run('true', '', signal())).code).toBe(0);
  });

  test('one that falls silent keeps nobody from disposing', async () => {
    await using sshd = await RecordingSshd.start();
    await using cable = await layCable(sshd.port);
    const transport = new SshTransport({ ...sshd.options, port: cable.port });
    await transport.run('true', '', signal());
    cable.silence();
    const start = performance.now();
    await transport[Symbol.asyncDispose]();
    expect(performance.now() - start).toBeLessThan(15_000);
  });

  test('one that falls silent is given up by its unanswered signs of life, and the next command gets another', async () => {
    await using sshd = await RecordingSshd.start();
    await using cable = await layCable(sshd.port);
    await using transport = new SshTransport({ ...sshd.options, port: cable.port, keepaliveMs: 25 });
    await transport.run('true', '', signal());
    sshd.fault = 'hang';
    const hanging = transport.run('sleep 600', '', signal());
    await expect.poll(() => sshd.runs.length).toBe(2);
    cable.silence();
    expect(await hanging).toMatchObject({ code: null });
    sshd.fault = null;
    expect((await transport.run('true', '', signal())).code).toBe(0);
    expect(sshd.connections).toBe(2);
  });

  test('one that is only idle is kept by its signs of life', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport({ ...sshd.options, keepaliveMs: 10 });
    await transport.run('true', '', signal());
    // Longer than unanswered ones would be waited for.
    await transport.run('sleep 0.3', '', signal());
    expect((await transport.run('true', '', signal())).code).toBe(0);
    expect(sshd.connections).toBe(1);
  });

  test('one that died unnoticed is replaced before anything is sent', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    await transport.run('true', '', signal());
    sshd.cutAll();
    await expect.poll(() => sshd.open).toBe(0);
    const results = await Promise.all([1, 2, 3].map(() => transport.run('true', '', signal())));
    expect(results.map(({ code }) => code === 0 || code === null)).toEqual([true, true, true]);
    expect((await transport.run('true', '', signal())).code).toBe(0);
  });

  test('a host that is down is unreachable, is not hammered, and is found again when it is back', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    await sshd.goDown();
    for (let call = 0; call < 200; call += 1) {
      await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('unreachable'));
    }
    await sshd.listen();
    await expect
      .poll(
        () =>
          transport.run('true', '', signal()).then(
            ({ code }) => code,
            () => 'down',
          ),
        { timeout: 15_000 },
      )
      .toBe(0);
  });

  test('after a failed attempt calls fail without a connection for a moment, with the same error', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport({ ...sshd.options, user: 'nobody' });
    for (let call = 0; call < 50; call += 1) {
      await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('auth_failed'));
    }
    expect(sshd.connections).toBeLessThan(5);
  });
});

describe('a host that takes connections and says nothing', () => {
  test('is unreachable as soon as the options say', async () => {
    await using deaf = await listenDeaf();
    await using transport = new SshTransport({ ...deaf.options, readyTimeoutMs: 50 });
    const start = performance.now();
    await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('unreachable'));
    expect(performance.now() - start).toBeLessThan(5_000);
  });

  test('keeps nobody from disposing', async () => {
    await using deaf = await listenDeaf();
    const transport = new SshTransport({ ...deaf.options, readyTimeoutMs: 60_000 });
    const rejected = expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('timeout'));
    await expect.poll(() => deaf.connections()).toBe(1);
    await transport[Symbol.asyncDispose]();
    await rejected;
    await expect.poll(() => deaf.open()).toBe(0);
  });
});

test('the pause after a failed attempt grows with every further one, up to ten seconds', async () => {
  await using sshd = await RecordingSshd.start();
  await using transport = new SshTransport({ ...sshd.options, user: 'nobody' });
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    const isTriedAfter = async (ms: number) => {
      const before = sshd.connections;
      vi.advanceTimersByTime(ms);
      await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('auth_failed'));
      return sshd.connections > before;
    };
    expect(await isTriedAfter(0)).toBe(true);
    for (const pause of [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]) {
      expect([await isTriedAfter(pause - 10), await isTriedAfter(20)], `${pause} ms`).toEqual([false, true]);
    }
  } finally {
    vi.useRealTimers();
  }
});

describe('who the host is', () => {
  test('a host key that is not pinned is refused, and the message tells the one it showed', async () => {
    await using sshd = await RecordingSshd.start();
    const other = hostKeyFingerprint(Buffer.from('another key'));
    for (const hostFingerprints of [[other], []]) {
      await using transport = new SshTransport({ ...sshd.options, hostFingerprints });
      await expect(transport.run('true', '', signal())).rejects.toThrow(sshd.fingerprint);
      await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('auth_failed'));
    }
    expect([sshd.sessions, sshd.runs]).toEqual([0, []]);
  });

  test('one of several pinned keys is enough, padded or not', async () => {
    await using sshd = await RecordingSshd.start();
    const hostFingerprints = [hostKeyFingerprint(Buffer.from('x')), `${sshd.fingerprint}=`];
    await using transport = new SshTransport({ ...sshd.options, hostFingerprints });
    expect((await transport.run('true', '', signal())).code).toBe(0);
  });

  test('a host key that has changed is refused at the next connection', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport(sshd.options);
    await transport.run('true', '', signal());
    await sshd.changeHostKey();
    sshd.cutAll();
    await expect.poll(() => sshd.open).toBe(0);
    await expect
      .poll(() =>
        transport.run('true', '', signal()).then(
          ({ code }) => code,
          (error: DriverError) => error.code,
        ),
      )
      .toBe('auth_failed');
    expect(sshd.runs).toHaveLength(1);
  });

  test('fingerprints of another form are a mistake at once', async () => {
    await using sshd = await RecordingSshd.start();
    for (const bad of ['MD5:00:11', sshd.fingerprint.slice(7), `${sshd.fingerprint}x`, '']) {
      expect(() => new SshTransport({ ...sshd.options, hostFingerprints: [bad] })).toThrow(TypeError);
    }
  });

  test('addresses that may not be called are not called, whether named or numbered', async () => {
    await using sshd = await RecordingSshd.start();
    for (const host of ['127.0.0.1', 'localhost']) {
      await using closed = new SshTransport({ ...sshd.options, host, outbound: new OutboundGuard() });
      await expect(closed.run('true', '', signal())).rejects.toSatisfy(coded('unreachable'));
    }
    expect(sshd.connections).toBe(0);
    const outbound = new OutboundGuard(['127.0.0.0/8']);
    await using open = new SshTransport({ ...sshd.options, host: 'localhost', outbound });
    expect((await open.run('true', '', signal())).code).toBe(0);
  });
});

describe('who we are', () => {
  test('a key the host does not know is auth_failed', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport({ ...sshd.options, privateKey: makeSshKey().privateKey });
    await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('auth_failed'));
  });

  test('an encrypted key needs its passphrase, and no message holds it', async () => {
    await using sshd = await RecordingSshd.start();
    const { privateKey, publicKey } = makeSshKey('CANARY');
    sshd.authorize(publicKey);
    await using right = new SshTransport({ ...sshd.options, privateKey, passphrase: 'CANARY' });
    expect((await right.run('true', '', signal())).code).toBe(0);
    for (const passphrase of ['CANARY2', undefined]) {
      await using wrong = new SshTransport({ ...sshd.options, privateKey, passphrase });
      const error = await wrong.run('true', '', signal()).catch((thrown: DriverError) => thrown);
      expect(error).toMatchObject({ code: 'auth_failed', message: expect.not.stringContaining('CANARY') });
    }
  });

  test('text that is no key is auth_failed, and is not repeated', async () => {
    await using sshd = await RecordingSshd.start();
    await using transport = new SshTransport({ ...sshd.options, privateKey: 'CANARY' });
    const error = await transport.run('true', '', signal()).catch((thrown: DriverError) => thrown);
    expect(error).toMatchObject({ code: 'auth_failed', message: expect.not.stringContaining('CANARY') });
  });

  test('an agent that is not there is auth_failed', async () => {
    await using sshd = await RecordingSshd.start();
    const options = { ...sshd.options, privateKey: undefined, agent: '/nonexistent/agent.sock' };
    await using transport = new SshTransport(options);
    await expect(transport.run('true', '', signal())).rejects.toSatisfy(coded('auth_failed'));
  });

  test('neither key nor agent, no host or no user is a mistake at once', async () => {
    await using sshd = await RecordingSshd.start();
    for (const missing of [{ privateKey: undefined }, { host: '' }, { user: '' }]) {
      expect(() => new SshTransport({ ...sshd.options, ...missing })).toThrow(TypeError);
    }
  });
});

describe('known_hosts', () => {
  const [one, two] = [makeSshKey(), makeSshKey()];
  const raw = (key: { publicKey: string }) => key.publicKey.split(' ')[1] as string;
  const print = (key: { publicKey: string }) => hostKeyFingerprint(Buffer.from(raw(key), 'base64'));
  const line = (hosts: string, key: { publicKey: string }) => `${hosts} ssh-ed25519 ${raw(key)} a comment\n`;

  test('plain names, lists, ports and patterns', () => {
    const text = `# hosts\n\n${line('a.example,203.0.113.5', one)}${line('[a.example]:2222', two)}${line('*.b.example,!c.b.example', two)}`;
    expect(knownHostFingerprints(text, 'A.example')).toEqual([print(one)]);
    expect(knownHostFingerprints(text, '203.0.113.5', 22)).toEqual([print(one)]);
    expect(knownHostFingerprints(text, 'a.example', 2222)).toEqual([print(two)]);
    expect(knownHostFingerprints(text, 'x.b.example')).toEqual([print(two)]);
    expect(knownHostFingerprints(text, 'c.b.example')).toEqual([]);
    expect(knownHostFingerprints(text, 'unknown.example')).toEqual([]);
    expect(knownHostFingerprints(text, 'a.example', 23)).toEqual([]);
  });

  test('a host with several keys has several fingerprints, each once', () => {
    const text = line('h', one) + line('h', two) + line('h', one);
    expect(knownHostFingerprints(text, 'h')).toEqual([print(one), print(two)]);
  });

  test('a revoked key is no key, and an authority is none either', () => {
    const text = `${line('h', one)}${line('h', two)}@revoked ${line('*', one)}@cert-authority ${line('h', one)}`;
    expect(knownHostFingerprints(text, 'h')).toEqual([print(two)]);
  });

  test('nonsense is skipped', () => {
    for (const text of [
      '',
      'h',
      'h ssh-ed25519',
      'h ssh-ed25519 ***',
      '|1|x',
      '|2|a|b ssh-ed25519 AAAAAAAAAAAAAAAAAAAA',
      '\0',
    ]) {
      expect(knownHostFingerprints(text, 'h')).toEqual([]);
    }
  });

  test('a pattern made to take long does not', () => {
    const text = line(`${'*a'.repeat(2_000)}b`, one);
    const start = performance.now();
    expect(knownHostFingerprints(text, 'a'.repeat(4_000))).toEqual([]);
    expect(performance.now() - start).toBeLessThan(5_000);
  });
});

/** A way to the host on which nothing may arrive any more, without either end being told. */
async function layCable(target: number) {
  const sockets: Socket[] = [];
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    sockets.push(client, upstream);
    for (const socket of [client, upstream]) socket.on('error', () => {});
    client.pipe(upstream).pipe(client);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    silence() {
      for (const socket of sockets) socket.unpipe().pause();
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** Takes every connection and never says a word. */
async function listenDeaf() {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket
      .on('error', () => {})
      .on('close', () => sockets.delete(socket))
      .resume();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { privateKey } = makeSshKey();
  const { port } = server.address() as AddressInfo;
  return {
    options: { host: '127.0.0.1', port, user: 'vpn', privateKey, hostFingerprints: [] },
    connections: () => connections,
    open: () => sockets.size,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
