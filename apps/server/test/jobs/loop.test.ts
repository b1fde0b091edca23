import { describe, expect, test } from 'vitest';
import { addSeconds, type Instant } from '../../src/domain/instant.ts';
import { Loop } from '../../src/jobs/loop.ts';
import { ManualClock } from '../manual-clock.ts';

const START = '2026-11-22T12:00:00.000Z';

/** A loop whose rounds end when the test says so. */
class Rounds {
  readonly clock = new ManualClock(START);
  readonly loop: Loop;
  readonly errors: unknown[] = [];
  started = 0;
  #end: PromiseWithResolvers<void> = Promise.withResolvers();

  constructor({ seconds = 60, onStart = (_rounds: Rounds): void => {} } = {}) {
    this.loop = new Loop({
      clock: this.clock,
      run: async (signal) => {
        this.started += 1;
        onStart(this);
        await Promise.race([this.#end.promise, aborted(signal)]);
        this.#end = Promise.withResolvers();
        return addSeconds(this.clock.now(), seconds);
      },
      onError: (error) => {
        this.errors.push(error);
        return addSeconds(this.clock.now(), 5) as Instant;
      },
    });
  }

  async end(): Promise<void> {
    this.#end.resolve();
    await ticks();
  }

  async fail(error: Error): Promise<void> {
    this.#end.reject(error);
    await ticks();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => signal.addEventListener('abort', () => done(), { once: true }));
}

/** Lets everything run that waits for nothing but its turn. */
async function ticks(): Promise<void> {
  for (let tick = 0; tick < 20; tick += 1) await Promise.resolve();
}

describe('a loop', () => {
  test('runs when it is woken, and again when its round said so', async () => {
    const rounds = new Rounds({ seconds: 60 });
    rounds.loop.wake();
    await ticks();
    expect(rounds.started).toBe(1);
    await rounds.end();
    rounds.clock.advance(59);
    await ticks();
    expect(rounds.started).toBe(1);
    rounds.clock.advance(1);
    await ticks();
    expect(rounds.started).toBe(2);
  });

  test('runs once more for any number of wake-ups during a round, and never twice at once', async () => {
    const rounds = new Rounds();
    rounds.loop.wake();
    await ticks();
    for (let wake = 0; wake < 5; wake += 1) rounds.loop.wake();
    await ticks();
    expect(rounds.started).toBe(1);
    await rounds.end();
    expect(rounds.started).toBe(2);
    await rounds.end();
    expect(rounds.started).toBe(2);
  });

  test('loses no wake-up in the moment in which a round ends', async () => {
    const rounds = new Rounds();
    for (let round = 1; round <= 50; round += 1) {
      rounds.loop.wake();
      const ending = rounds.end();
      rounds.loop.wake();
      await ending;
      await rounds.end();
    }
    const before = rounds.started;
    rounds.loop.wake();
    await ticks();
    expect(rounds.started).toBe(before + 1);
  });

  test('may be woken by its own round at once', async () => {
    const rounds = new Rounds({ onStart: (own) => own.started < 3 && own.loop.wake() });
    rounds.loop.wake();
    await ticks();
    await rounds.end();
    await rounds.end();
    await rounds.end();
    expect(rounds.started).toBe(3);
  });

  test('a wake-up before the time takes the place of the timer', async () => {
    const rounds = new Rounds({ seconds: 60 });
    rounds.loop.wake();
    await ticks();
    await rounds.end();
    rounds.clock.advance(30);
    rounds.loop.wake();
    await ticks();
    await rounds.end();
    rounds.clock.advance(30);
    await ticks();
    expect(rounds.started).toBe(2);
    rounds.clock.advance(30);
    await ticks();
    expect(rounds.started).toBe(3);
  });

  test('many wake-ups after a long round cost one more round, after a pause of at most a second', async () => {
    const rounds = new Rounds({ seconds: 60 });
    rounds.loop.wake();
    await ticks();
    rounds.clock.advance(0.1);
    rounds.loop.wake();
    await rounds.end();
    for (let wake = 0; wake < 5; wake += 1) rounds.loop.wake();
    rounds.clock.advance(0.39);
    await ticks();
    expect(rounds.started).toBe(1);
    rounds.clock.advance(0.01);
    await ticks();
    expect(rounds.started).toBe(2);
    rounds.clock.advance(30);
    await rounds.end();
    rounds.loop.wake();
    rounds.clock.advance(1);
    await ticks();
    expect(rounds.started).toBe(3);
  });

  test('what time asks for does not wait for the pause', async () => {
    const rounds = new Rounds({ seconds: 0.2 });
    rounds.loop.wake();
    await ticks();
    rounds.clock.advance(10);
    await rounds.end();
    rounds.loop.wake();
    rounds.clock.advance(0.2);
    await ticks();
    expect(rounds.started).toBe(2);
  });

  test('comes round again after an error, when its owner said', async () => {
    const rounds = new Rounds();
    rounds.loop.wake();
    await ticks();
    await rounds.fail(new Error('no'));
    expect(rounds.errors).toHaveLength(1);
    rounds.clock.advance(5);
    await ticks();
    expect(rounds.started).toBe(2);
  });

  test('stops its round, and does not run again', async () => {
    const rounds = new Rounds();
    rounds.loop.wake();
    await ticks();
    rounds.loop.wake();
    await rounds.loop[Symbol.asyncDispose]();
    rounds.loop.wake();
    rounds.clock.advance(3600);
    await ticks();
    expect(rounds.started).toBe(1);
  });
});
