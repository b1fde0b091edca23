import { setTimeout as sleep } from 'node:timers/promises';
import type { Dice } from './dice.ts';

const SENDERS = 16;
/** A sender that got no answer tries again soon: these are impatient providers. */
const RETRY_MS = 40;

export interface SendResult {
  readonly attempts: number;
  /** Answers that were neither 2xx nor 503, by status. */
  readonly wrongStatuses: ReadonlyMap<number, number>;
}

export interface Sending<T> {
  readonly items: readonly T[];
  readonly dice: Dice;
  /** One delivery; the status of its answer, or undefined when none came. */
  readonly deliver: (item: T) => Promise<number | undefined>;
  /** Told once for each item, when its delivery was answered with 2xx. */
  readonly onAcknowledged?: (item: T) => void;
  /** How many times each item is delivered again after its first 2xx, at most. */
  readonly repeats?: number;
}

/** Sixteen providers at once, each repeating a delivery until it is answered with 2xx, some once more after that. */
export async function sendAll<T>({
  items,
  dice,
  deliver,
  onAcknowledged,
  repeats = 1,
}: Sending<T>): Promise<SendResult> {
  const queue = dice.shuffled(
    items.flatMap((item) => Array.from({ length: dice.between(1, 1 + repeats) }, () => item)),
  );
  const wrongStatuses = new Map<number, number>();
  let attempts = 0;
  const send = async (item: T): Promise<void> => {
    for (;;) {
      attempts += 1;
      const status = await deliver(item);
      if (status !== undefined && status >= 200 && status < 300) return;
      if (status !== undefined && status !== 503) wrongStatuses.set(status, (wrongStatuses.get(status) ?? 0) + 1);
      await sleep(RETRY_MS);
    }
  };
  const acknowledged = new Set<T>();
  const work = async () => {
    for (let item = queue.pop(); item !== undefined; item = queue.pop()) {
      await send(item);
      if (!acknowledged.has(item)) onAcknowledged?.(item);
      acknowledged.add(item);
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, work));
  return { attempts, wrongStatuses };
}
