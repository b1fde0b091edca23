import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DriverError, type PeerChange, type SetPeer } from '../src/driver.ts';
import { generateKeyPair, generatePresharedKey, type PublicKey } from '../src/keys.ts';
import { END_MARK, shellCommands } from '../src/shell/commands.ts';
import { LocalTransport } from '../src/shell/local.ts';
import { parsePeerDump } from '../src/shell/parse-dump.ts';
import { ShellDriver } from '../src/shell/shell-driver.ts';
import type { CommandResult, Transport } from '../src/shell/transport.ts';

const signal = () => AbortSignal.timeout(10_000);
const commands = shellCommands('wg0', 'direct');
const ok = (stdout = ''): CommandResult => ({ code: 0, stdout, stderr: '' });
const exit = (code: number | null): CommandResult => ({ code, stdout: '', stderr: 'text in any language' });

/** Answers commands by script and remembers what it was asked. */
class ScriptedTransport implements Transport {
  readonly runs: { readonly command: string; readonly stdin: string }[] = [];
  readonly #answer: (command: string) => CommandResult | DriverError;

  constructor(answer: (command: string) => CommandResult | DriverError) {
    this.#answer = answer;
  }

  async run(command: string, stdin: string): Promise<CommandResult> {
    this.runs.push({ command, stdin });
    const answer = this.#answer(command);
    if (answer instanceof DriverError) throw answer;
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

function scripted(answers: Partial<Record<keyof typeof commands, CommandResult | DriverError>>) {
  const transport = new ScriptedTransport((command) => {
    const name = (Object.keys(commands) as (keyof typeof commands)[]).find((key) => commands[key] === command);
    return (name && answers[name]) ?? ok();
  });
  return { transport, driver: new ShellDriver({ kind: 'ssh', transport, interface: 'wg0' }) };
}

function newPeer(n: number): SetPeer & { publicKey: PublicKey } {
  const { publicKey } = generateKeyPair();
  return {
    type: 'set',
    publicKey,
    presharedKey: generatePresharedKey(),
    addresses: [`10.8.0.${n}/32`, `fd00::${n}/128`],
    tag: `t${n}`,
  };
}

const remove = (publicKey: PublicKey): PeerChange => ({ type: 'remove', publicKey, tag: null });
const dumpLine = (peer: SetPeer) =>
  `${peer.publicKey}\t${peer.presharedKey}\t(none)\t${peer.addresses.join(',')}\t0\t0\t0\toff\n`;

describe('commands', () => {
  test('only plain interface names are taken', () => {
    for (const name of [
      '',
      'wg0;id',
      '-h',
      'wg 0',
      '$(id)',
      'wg0\n',
      'a/b',
      '0wg',
      'sixteen-chars-00',
      'all',
      'interfaces',
      'wg`id`',
    ]) {
      expect(() => shellCommands(name, 'direct')).toThrow(TypeError);
    }
    expect(() => shellCommands('fifteen-chars-0', 'direct')).not.toThrow();
  });

  test('sudo is asked for wg and for nothing else', () => {
    const withSudo = Object.values(shellCommands('wg0', 'sudo'));
    for (const command of withSudo) {
      expect(command).toMatch(/sudo -n wg /);
      expect(command.replaceAll('sudo -n wg ', '')).not.toMatch(/sudo|\bwg /);
    }
  });

  test('whatever a change holds, the command is one of the constants and stdin holds only keys and addresses', async () => {
    const { transport, driver } = scripted({});
    const part = fc.constantFrom(
      '\n[Peer]\n',
      '\nPostUp = id',
      '$(id)',
      '`id`',
      "';id;'",
      '10.8.0.5/24',
      '0.0.0.0/0',
      '10.8.0.5/32',
      '::1/128',
      END_MARK,
      '\0',
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(part, { maxLength: 3 }).map((all) => all.join('')),
    );
    const { publicKey } = generateKeyPair();
    const keyText = fc.oneof(fc.constant(publicKey as string), text);
    const change = fc.oneof(
      fc.record({
        type: fc.constant('set'),
        publicKey: keyText,
        presharedKey: fc.oneof(fc.constant(null), text),
        addresses: fc.array(text, { maxLength: 2 }),
        tag: text,
      }),
      fc.record({ type: fc.constantFrom('remove', 'suspend'), publicKey: keyText, tag: text }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 4 }), async (changes) => {
        transport.runs.length = 0;
        const results = await driver.apply(changes as PeerChange[], signal());
        expect(results).toHaveLength(changes.length);
        for (const { command, stdin } of transport.runs) {
          expect([commands.set, commands.remove]).toContain(command);
          for (const line of stdin.split('\n')) expect(line).toMatch(STDIN_LINE);
        }
      }),
      { numRuns: 500 },
    );
  });
});

const STDIN_LINE =
  /^(?:\[Peer\]|(?:Public|Preshared)Key = [A-Za-z0-9+/]{43}=|AllowedIPs = (?:[0-9.]+\/32|[0-9a-f:]+\/128)(?:, (?:[0-9.]+\/32|[0-9a-f:]+\/128))*|peer|remove|[A-Za-z0-9+/]{43}=|#end)$/;

describe('applying', () => {
  test('thousands of peers are two commands: what leaves, what is set', async () => {
    const { transport, driver } = scripted({});
    const [gone, set] = [
      Array.from({ length: 300 }, () => generateKeyPair().publicKey),
      Array.from({ length: 200 }, (_, n) => newPeer(n % 200)),
    ];
    await driver.apply([...gone.map(remove), ...set], signal());
    expect(transport.runs.map(({ command }) => command)).toEqual([commands.remove, commands.set]);
  });

  test('a peer without preshared key clears the one the host has', async () => {
    const { transport, driver } = scripted({});
    const peer = newPeer(2);
    await driver.apply([{ ...peer, presharedKey: null }], signal());
    expect(transport.runs[0]?.stdin).toBe(
      `[Peer]\nPublicKey = ${peer.publicKey}\nPresharedKey = ${'A'.repeat(43)}=\nAllowedIPs = 10.8.0.2/32, fd00::2/128\n#end`,
    );
  });

  test('after a failed batch each change is judged by what is on the host', async () => {
    const [done, missing, gone, stays] = [newPeer(2), newPeer(3), newPeer(4), newPeer(5)];
    const { driver } = scripted({ remove: exit(123), list: ok(dumpLine(done) + dumpLine(stays)) });
    const results = await driver.apply([remove(gone.publicKey), remove(stays.publicKey), done, missing], signal());
    expect(results.map(({ outcome }) => outcome)).toEqual(['applied', 'failed', 'applied', 'failed']);
  });

  test('nothing is set after a removal that failed', async () => {
    const { transport, driver } = scripted({ remove: exit(123) });
    await driver.apply([remove(generateKeyPair().publicKey), newPeer(2)], signal());
    expect(transport.runs.map(({ command }) => command)).toEqual([commands.remove, commands.list]);
  });

  test('when the connection died, what is not visible is unknown', async () => {
    const [done, unseen] = [newPeer(2), newPeer(3)];
    const { driver } = scripted({ set: exit(null), list: ok(dumpLine(done)) });
    const results = await driver.apply([done, unseen], signal());
    expect(results.map(({ outcome }) => outcome)).toEqual(['applied', 'unknown']);
  });

  test('when the host cannot be read afterwards either, the outcome is unknown', async () => {
    const down = new DriverError('unreachable', 'down');
    const { driver } = scripted({ set: exit(1), list: down });
    await expect(driver.apply([newPeer(2)], signal())).rejects.toMatchObject({
      code: 'unknown_outcome',
      outcomeUnknown: true,
    });
  });

  test('a host that is down from the start was not changed, one lost between two steps may have been', async () => {
    const down = new DriverError('unreachable', 'down');
    const first = scripted({ remove: down });
    const changes = [remove(generateKeyPair().publicKey), newPeer(2)];
    await expect(first.driver.apply(changes, signal())).rejects.toMatchObject({
      code: 'unreachable',
      outcomeUnknown: false,
    });
    const second = scripted({ set: down });
    await expect(second.driver.apply(changes, signal())).rejects.toMatchObject({ code: 'unknown_outcome' });
  });

  test('messages hold no key', async () => {
    const peer = newPeer(2);
    const { driver } = scripted({ set: exit(1) });
    expect(JSON.stringify(await driver.apply([peer], signal()))).not.toContain(peer.presharedKey);
  });
});

describe('reading', () => {
  test.each([
    [1, ok('wg1\twg2\n'), 'interface_missing'],
    [1, ok('wg0\twg1\n'), 'refused'],
    [1, exit(1), 'refused'],
    [127, ok(), 'refused'],
    [null, ok(), 'unreachable'],
  ])('exit code %s with interfaces %j is %s', async (code, interfaces, error) => {
    const { driver } = scripted({ list: exit(code), describe: exit(code), interfaces });
    await expect(driver.list(signal())).rejects.toMatchObject({ code: error });
    await expect(driver.describe(signal())).rejects.toMatchObject({ code: error });
  });

  test('an interface without key or with nonsense for an answer is a bad answer', async () => {
    for (const stdout of ['(none)\n51820\n', '', 'x\ny\n', `${generateKeyPair().publicKey}\n`]) {
      const { driver } = scripted({ describe: ok(stdout) });
      await expect(driver.describe(signal())).rejects.toMatchObject({ code: 'bad_answer' });
    }
  });

  test('every field of a dump line is read', () => {
    const { publicKey } = generateKeyPair();
    const psk = generatePresharedKey();
    expect(
      parsePeerDump(
        `${publicKey}\t${psk}\t[2001:db8::1]:4242\t10.8.0.2/32,fd00::2/128\t1763812800\t1024\t9007199254740991\t25\n`,
      ),
    ).toEqual([
      {
        publicKey,
        presharedKey: psk,
        endpoint: '[2001:db8::1]:4242',
        allowedIps: ['10.8.0.2/32', 'fd00::2/128'],
        enabled: true,
        lastHandshakeAt: '2025-11-22T12:00:00.000Z',
        rxBytes: 1024,
        txBytes: 9007199254740991,
      },
    ]);
  });

  test('a foreign peer with odd ranges does not break the list', () => {
    const { publicKey } = generateKeyPair();
    const [peer] = parsePeerDump(`${publicKey}\t(none)\t(none)\t::ffff:1.2.3.4/128,0.0.0.0/0\t0\t0\t0\toff\n`);
    expect(peer?.allowedIps).toEqual(['::ffff:1.2.3.4/128', '0.0.0.0/0']);
  });

  test('anything else is a bad answer that repeats nothing', () => {
    const { publicKey } = generateKeyPair();
    const wrong = [
      'CANARY',
      `${publicKey}\tCANARY\t(none)\t(none)\t0\t0\t0\toff`,
      `${publicKey}\t(none)\t(none)\t(none)\t-1\t0\t0\toff`,
      `${publicKey}\t(none)\t(none)\t(none)\t0\t1e9\t0\toff`,
    ];
    for (const text of wrong) expect(() => parsePeerDump(text)).toThrow(/^the output of wg could not be read$/);
  });
});

describe('the local transport', () => {
  test('output and exit code come back, stdin goes in, the environment does not', async () => {
    process.env.WG_TEST_CANARY = 'secret';
    await using transport = new LocalTransport();
    const result = await transport.run('cat; echo "$WG_TEST_CANARY" >&2; exit 3', 'hello', signal());
    expect(result).toEqual({ code: 3, stdout: 'hello', stderr: '\n' });
  });

  test('a command that ignores a long stdin is no error', async () => {
    await using transport = new LocalTransport();
    expect(await transport.run('exit 0', 'x'.repeat(1_000_000), signal())).toMatchObject({ code: 0 });
  });

  test('an abort kills the whole pipeline', async () => {
    await using transport = new LocalTransport();
    const controller = new AbortController();
    const running = transport.run('sleep 600 | sleep 600', '', controller.signal);
    controller.abort();
    await expect(running).rejects.toMatchObject({ code: 'timeout' });
  });

  test('disposing kills what still runs', async () => {
    const transport = new LocalTransport();
    const running = transport.run('sleep 600', '', signal());
    await transport[Symbol.asyncDispose]();
    await expect(running).rejects.toMatchObject({ code: 'timeout' });
  });

  test('a command that prints without end is stopped', async () => {
    await using transport = new LocalTransport({ maxStdoutBytes: 10_000 });
    await expect(transport.run('cat /dev/zero', '', signal())).rejects.toMatchObject({ code: 'bad_answer' });
  });

  test('a killed command has no exit code', async () => {
    await using transport = new LocalTransport();
    expect(await transport.run('kill -9 $$', '', signal())).toMatchObject({ code: null });
  });

  test('input that ends early does nothing at all', async () => {
    await using transport = new LocalTransport();
    for (const command of [commands.set, commands.remove]) {
      const harmless = command.replaceAll('wg ', 'echo CANARY ');
      expect(await transport.run(harmless, '[Peer]\nPublicKey = half', signal())).toMatchObject({
        code: 65,
        stdout: '',
      });
      expect((await transport.run(harmless, `x\n${END_MARK}`, signal())).stdout).toContain('CANARY');
    }
  });
});
