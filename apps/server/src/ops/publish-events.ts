import { publishOutboxEvents } from '@vpn-api/db';
import type { Services } from '../services.ts';

/** Small enough to hold up no other writer of an embedded database. */
const BATCH = 500;

/** Gives every event that was committed by now its place in the public order; answers how many there were. */
export async function publishEvents({ store }: Pick<Services, 'store'>): Promise<number> {
  let total = 0;
  for (;;) {
    const published = await store.transaction((tx) => publishOutboxEvents(tx, BATCH));
    total += published;
    if (published < BATCH) return total;
  }
}
