import { existsSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PeerChange } from '../../src/driver.ts';
import { generateKeyPair } from '../../src/keys.ts';
import { type HostScripts, type Privilege, type ShellCommands, shellCommands } from '../../src/shell/commands.ts';
import { openSshDriver } from '../../src/shell/ssh.ts';
import { SshTransport } from '../../src/shell/ssh-transport.ts';
import { hostileText } from '../hostile-text.ts';
import { RecordingSshd } from '../recording-sshd.ts';

const signal = () => AbortSignal.timeout(60_000);

const scripts: HostScripts = {
  apply: '/srv/vpn-api/scripts/wg_apply.sh',
  remove: '/srv/vpn-api/scripts/wg_remove.sh',
  generate: '/srv/vpn-api/scripts/wg_gen_key.sh',
};

const hosts: readonly (readonly [string, Privilege, HostScripts | undefined])[] = [
  ['wg as root', 'direct', undefined],
  ['wg by sudo', 'sudo', undefined],
  ['the host kit', 'kit', undefined],
  ["an operator's scripts", 'sudo', scripts],
];

/** Every line that may go to a host: names of keys, keys, addresses, and nothing else. */
const INPUT_LINE =
  /^(?:\[Peer\]|(?:Public|Preshared)Key = [A-Za-z0-9+/]{43}=|AllowedIPs = HOST(?:, HOST)*|peer|remove|[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{43}= HOST(?:,HOST)* (?:-|[A-Za-z0-9+/]{43}=)|[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}|#end|)$/;
const inputLine = new RegExp(INPUT_LINE.source.replaceAll('HOST', '(?:[0-9.]+/32|[0-9a-f:]+/128)'));

const key = generateKeyPair().publicKey;
const text = fc.oneof(fc.constantFrom(...hostileText), fc.string({ unit: 'binary' }), fc.constant('10.8.0.2/32'));
const keyText = fc.oneof(fc.constant(key as string), text);
const change = fc.oneof(
  fc.record({
    type: fc.constant('set'),
    publicKey: fc.oneof(keyText, fc.constant(null)),
    presharedKey: fc.oneof(text, fc.constant(null)),
    addresses: fc.array(text, { maxLength: 2 }),
    tag: text,
  }),
  fc.record({ type: fc.constantFrom('remove', 'suspend'), publicKey: keyText, tag: fc.oneof(text, fc.constant(null)) }),
) as fc.Arbitrary<PeerChange>;

describe.each(hosts)('with %s', (_, privilege, operatorScripts) => {
  const keyModes = privilege === 'kit' || operatorScripts ? (['given', 'reported'] as const) : (['given'] as const);

  test.each(keyModes)('whatever a change holds (%s keys), the host sees only the constant commands', async (keys) => {
    await using sshd = await RecordingSshd.start({ execute: async () => ({ code: 0, stdout: '', stderr: '' }) });
    const options = { interface: 'wg0', privilege, scripts: operatorScripts, keys };
    await using driver = openSshDriver({ ...sshd.options, ...options });
    const commands: ShellCommands = shellCommands('wg0', privilege, { scripts: operatorScripts });
    const constant = new Set(Object.values(commands));
    const oneByOne = hostileText.flatMap((hostile): PeerChange[][] => [
      [{ type: 'set', publicKey: key, presharedKey: null, addresses: [hostile], tag: hostile }],
      [{ type: 'set', publicKey: hostile as typeof key, presharedKey: null, addresses: ['10.8.0.2/32'], tag: 't' }],
      [{ type: 'set', publicKey: key, presharedKey: hostile as never, addresses: ['10.8.0.2/32'], tag: hostile }],
      [{ type: 'set', publicKey: null, presharedKey: null, addresses: ['10.8.0.2/32'], tag: hostile }],
      [{ type: 'remove', publicKey: hostile as typeof key, tag: hostile }],
    ]);
    for (const changes of [...oneByOne, ...fc.sample(fc.array(change, { maxLength: 4 }), { numRuns: 200, seed: 20 })]) {
      expect(await driver.apply(changes, signal())).toHaveLength(changes.length);
    }
    await driver.list(signal());
    await driver.describe(signal()).catch(() => {});
    expect(sshd.runs.length).toBeGreaterThan(20);
    for (const run of sshd.runs) {
      expect(constant).toContain(run.command);
      for (const line of run.stdin.split('\n')) expect(line).toMatch(inputLine);
    }
    // The commands hold nothing that came with a change, so they are the same for everybody.
    expect(constant.size).toBeLessThanOrEqual(6);
  });
});

test('what the operator configures is checked as strictly: interfaces, paths, privileges', async () => {
  const base = { host: 'h', user: 'u', privateKey: 'k', hostFingerprints: [], interface: 'wg0' };
  for (const hostile of hostileText) {
    expect(() => openSshDriver({ ...base, interface: hostile })).toThrow(TypeError);
    for (const path of [hostile, `/srv/${hostile}`, `/srv/${hostile}/x`]) {
      // A few of them are ordinary names once they stand below a directory.
      if (/^\/(?:[\w.-]{1,64}\/)*[\w.-]{1,64}$/.test(path) && !path.includes('..')) continue;
      for (const name of ['apply', 'remove', 'generate']) {
        expect(() => openSshDriver({ ...base, scripts: { [name]: path } }), path).toThrow(TypeError);
      }
      expect(() => openSshDriver({ ...base, scripts, keyDirectory: path }), path).toThrow(TypeError);
    }
    expect(() => openSshDriver({ ...base, privilege: hostile as Privilege })).toThrow(TypeError);
  }
  expect(() => openSshDriver({ ...base, privilege: 'kit', scripts })).toThrow(TypeError);
  expect(() => openSshDriver({ ...base, keys: 'reported' })).toThrow(TypeError);
});

test('commands run by a real shell with hostile input do nothing but refuse it', async () => {
  await using sshd = await RecordingSshd.start();
  const commands = shellCommands('wg-not-there', 'direct', { scripts: { apply: '/bin/false', remove: '/bin/false' } });
  await using driver = openSshDriver({ ...sshd.options, interface: 'wg-not-there' });
  // Straight to the host, past every check of the driver.
  await using transport = new SshTransport(sshd.options);
  for (const hostile of hostileText) {
    for (const command of [commands.set, commands.remove]) {
      const { code } = await transport.run(command, `${hostile}\n#end`, signal());
      expect(code === 0 && hostile.trim() !== '' ? hostile : 'fine').toBe('fine');
    }
  }
  expect(existsSync('/tmp/pwned')).toBe(false);
  await expect(driver.list(signal())).rejects.toMatchObject({ name: 'DriverError' });
});
