/** Where a command writes and how long its host may take. */
export interface Output {
  write(text: string): void;
}

const HOST_TIMEOUT_MS = 30_000;

/** A full wg-easy takes a third of a second to make a client, and more on a busy machine. */
const CHANGE_TIMEOUT_MS = 2_000;

/** A host that does not answer for this long is given up; it has longer for changes that it makes one by one. */
export function patience(oneByOne = 0): AbortSignal {
  return AbortSignal.timeout(HOST_TIMEOUT_MS + oneByOne * CHANGE_TIMEOUT_MS);
}

/** A name is whatever somebody typed on another program's page: no control characters reach the terminal. */
export function printable(text = ''): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}
