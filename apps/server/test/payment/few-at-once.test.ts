import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { FewAtOnce } from '../../src/ops/few-at-once.ts';

/** Pieces of work that end when the test says so. */
function makeWork(line: FewAtOnce) {
  const started: string[] = [];
  const ends = new Map<string, PromiseWithResolvers<void>>();
  const run = (key: string, name: string) => {
    ends.set(name, Promise.withResolvers<void>());
    return line.run(key, async () => {
      started.push(name);
      await ends.get(name)?.promise;
      return name;
    });
  };
  return { started, run, end: (name: string) => ends.get(name) as PromiseWithResolvers<void> };
}

describe('work for one key', () => {
  test('runs a few at a time, in its order, and never waits for another key', async () => {
    const { started, run, end } = makeWork(new FewAtOnce(2));
    const all = ['a', 'b', 'c', 'd'].map((name) => run('one', name));
    all.push(run('other', 'e'));
    await turn();
    expect(started).toEqual(['a', 'b', 'e']);
    end('b').resolve();
    await turn();
    expect(started).toEqual(['a', 'b', 'e', 'c']);
    for (const name of ['a', 'c', 'd', 'e']) end(name).resolve();
    expect(await Promise.all(all)).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  test('that fails lets the next one in, and fails for its caller only', async () => {
    const { started, run, end } = makeWork(new FewAtOnce(1));
    const first = run('one', 'a');
    const second = run('one', 'b');
    end('a').reject(new Error('broken'));
    await expect(first).rejects.toThrow('broken');
    end('b').resolve();
    expect(await second).toBe('b');
    const third = run('one', 'c');
    await turn();
    expect(started).toEqual(['a', 'b', 'c']);
    end('c').resolve();
    await third;
  });
});
