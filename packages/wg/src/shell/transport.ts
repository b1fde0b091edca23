/** What a finished command left behind. */
export interface CommandResult {
  /** Exit code; null when the command was killed or the connection was lost: nobody knows how far it got. */
  readonly code: number | null;
  readonly stdout: string;
  /** For people only. Never interpreted, never logged together with stdin. */
  readonly stderr: string;
}

/** A way to run one POSIX shell command on a host. Commands are constant strings; all data goes by stdin. */
export interface Transport extends AsyncDisposable {
  /**
   * Resolves whatever the exit code is.
   * @throws DriverError `unreachable` or `auth_failed` when the command was not started, `timeout` when `signal` was
   *   aborted (the command is killed where that is possible), `bad_answer` when it printed more than it may
   */
  run(command: string, stdin: string, signal: AbortSignal): Promise<CommandResult>;
}

/** 100 000 peers print about 16 MB. */
export const STDOUT_MAX_BYTES = 32 * 1024 * 1024;
/** Enough for a person to see what went wrong; the rest is dropped. */
export const STDERR_MAX_BYTES = 16 * 1024;
