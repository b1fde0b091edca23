import type { WgDriver } from '../driver.ts';
import { applyOne } from './add.ts';
import { type Output, patience } from './output.ts';
import { UsageError } from './usage-error.ts';

/**
 * Takes one peer off a host, named by its key or, on hosts that keep names, by its name.
 * @throws UsageError when there is no such peer or more than one
 */
export async function removePeer(driver: WgDriver, output: Output, nameOrKey: string): Promise<void> {
  const observed = await driver.list(patience());
  const [peer, ...others] = observed.filter(({ publicKey, tag }) => publicKey === nameOrKey || tag === nameOrKey);
  if (peer === undefined) throw new UsageError(`there is no peer ${nameOrKey}`);
  if (others.length > 0) throw new UsageError(`${others.length + 1} peers are called so: name one by its key`);
  await applyOne(driver, { type: 'remove', publicKey: peer.publicKey, tag: peer.tag ?? null });
  output.write(`removed ${peer.publicKey}\n`);
}
