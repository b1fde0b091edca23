/** Preloaded into each measured process (`node --import`): answers what it has used so far, when asked by a message. */

export interface Usage {
  /** All threads, user and system, in microseconds since the start. */
  readonly cpuMicroseconds: number;
  readonly rssBytes: number;
}

process.on('message', () => {
  const { user, system } = process.cpuUsage();
  const usage: Usage = { cpuMicroseconds: user + system, rssBytes: process.memoryUsage.rss() };
  process.send?.(usage);
});
// Must not keep a process alive that wants to end.
process.channel?.unref();
