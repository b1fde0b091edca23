import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addressAt, parsePool } from '../../src/address.ts';
import { diffPeers } from '../../src/diff.ts';
import type { SetPeer } from '../../src/driver.ts';
import { generateKeyPair, generatePresharedKey, type PublicKey } from '../../src/keys.ts';
import { openSshDriver } from '../../src/shell/ssh.ts';
import { RecordingSshd, type SshdFault } from '../recording-sshd.ts';
import { skipWithoutWireguard, startWireguardLab, type WireguardLab } from '../wireguard-lab.ts';

const POOL = '10.97.0.0/16';
const signal = () => AbortSignal.timeout(60_000);

/** Commands run for real, on a real interface; only the connection lies. */
describe.skipIf(skipWithoutWireguard())('a connection that dies in the middle of a batch', () => {
  let lab: WireguardLab;

  beforeAll(async () => {
    lab = await startWireguardLab({ poolV4: POOL });
  });

  afterAll(() => lab?.[Symbol.asyncDispose]());

  const newPeer = (index: number): SetPeer & { publicKey: PublicKey } => ({
    type: 'set',
    publicKey: generateKeyPair().publicKey,
    presharedKey: generatePresharedKey(),
    addresses: [`${addressAt(parsePool(POOL), index)}/32`],
    tag: `p${index}`,
  });

  test.each([
    ['cut_before_command', ['unknown'], 0],
    // Half an address is the address of somebody else: of half a batch nothing is done.
    ['cut_in_stdin', ['unknown'], 0],
    ['cut_after_command', ['applied'], 300],
  ] as const)(
    '%s: every change is judged by what the host shows, and one more compare puts it right',
    async (fault, outcomes, made) => {
      await using sshd = await RecordingSshd.start();
      await using driver = openSshDriver({ ...sshd.options, interface: lab.interface });
      const peers = Array.from({ length: 300 }, (_, n) => newPeer(n + 2));
      const ours = new Set(peers.map(({ publicKey }) => publicKey));
      const desired = peers.map(({ type: _, ...peer }) => ({ ...peer, state: 'present' as const }));
      const compare = async (wanted: readonly (typeof desired)[number][]) =>
        diffPeers({ desired: wanted, observed: await driver.list(signal()), ours });

      for (const wanted of [desired, []]) {
        const before = (await compare(wanted)).changes;
        expect(before).toHaveLength(300);
        sshd.failOnce = fault satisfies SshdFault;
        const results = await driver.apply(before, signal());
        expect([...new Set(results.map(({ outcome }) => outcome))]).toEqual(outcomes);
        const after = (await compare(wanted)).changes;
        expect(after).toHaveLength(300 - made);
        await driver.apply(after, signal());
        expect((await compare(wanted)).changes).toEqual([]);
      }
      expect(await lab.dump()).toEqual([]);
    },
  );

  test('a host that is lost for good leaves the outcome unknown, not failed', async () => {
    await using sshd = await RecordingSshd.start();
    await using driver = openSshDriver({ ...sshd.options, interface: lab.interface });
    await driver.list(signal());
    sshd.fault = 'cut_after_command';
    await expect(driver.apply([newPeer(2)], signal())).rejects.toMatchObject({
      code: 'unknown_outcome',
      outcomeUnknown: true,
    });
    sshd.fault = null;
    const listed = await driver.list(signal());
    expect(listed).toHaveLength(1);
    const leave = listed.map(({ publicKey }) => ({ type: 'remove' as const, publicKey, tag: null }));
    await driver.apply(leave, signal());
    expect(await lab.dump()).toEqual([]);
  });

  test('an abort in the middle of a batch is a timeout with an unknown outcome', async () => {
    await using sshd = await RecordingSshd.start();
    await using driver = openSshDriver({ ...sshd.options, interface: lab.interface });
    await driver.list(signal());
    sshd.fault = 'hang';
    const controller = new AbortController();
    const applying = driver.apply([newPeer(2)], controller.signal);
    await expect.poll(() => sshd.runs.length).toBe(2);
    controller.abort();
    await expect(applying).rejects.toMatchObject({ code: 'timeout', outcomeUnknown: true });
    sshd.fault = null;
    expect(await driver.list(signal())).toEqual([]);
  });
});
