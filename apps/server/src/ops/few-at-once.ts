interface Line {
  running: number;
  readonly waiting: (() => void)[];
}

/** Runs work for one key a few at a time, in the order it came, and for different keys side by side. Within this process only. */
export class FewAtOnce {
  readonly #limit: number;
  readonly #lines = new Map<string, Line>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const line = this.#lines.get(key) ?? { running: 0, waiting: [] };
    this.#lines.set(key, line);
    if (line.running < this.#limit) line.running += 1;
    else await new Promise<void>((start) => line.waiting.push(start));
    try {
      return await work();
    } finally {
      this.#leave(key, line);
    }
  }

  /** Whoever waits takes the place over; the last one out clears the line away. */
  #leave(key: string, line: Line): void {
    const next = line.waiting.shift();
    if (next !== undefined) next();
    else line.running -= 1;
    if (line.running === 0) this.#lines.delete(key);
  }
}
