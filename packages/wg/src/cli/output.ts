/** Where a command writes and how long its host may take. */
export interface Output {
  write(text: string): void;
}

const HOST_TIMEOUT_MS = 30_000;

/** A host that does not answer for this long is given up. */
export function patience(): AbortSignal {
  return AbortSignal.timeout(HOST_TIMEOUT_MS);
}
