import { type LoggerOptions, type Logger as PinoLogger, pino, stdSerializers } from 'pino';
import { redact, scrubText, withoutQuery } from './redact.ts';

const { errWithCause } = stdSerializers;

export type Logger = PinoLogger;
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';

export interface LogOptions {
  readonly level: LogLevel;
  /** Where finished lines go, each with its line end. Standard output by default. */
  readonly write?: (line: string) => void;
}

interface LoggedRequest {
  readonly id?: unknown;
  readonly method?: string;
  readonly url?: string;
  readonly ip?: string;
}

/**
 * JSON lines with ISO times and level names. Values of secret-sounding keys are blanked at any depth, then the finished
 * line is searched for things that look like secrets. Query strings are never written.
 *
 * @example
 * ```ts
 * const log = createLogger({ level: 'info' });
 * log.child({ request_id }).warn({ err, path: 'peer.createSelf' }, 'procedure failed');
 * ```
 */
export function createLogger({ level, write }: LogOptions): Logger {
  const destination = write ?? standardOutput();
  const options: LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: {
      level: (label) => ({ level: label }),
    },
    serializers: { err: errWithCause, error: errWithCause, req: describeRequest, res: describeReply },
  };
  return pino(options, { write: (line) => destination(finish(line)) });
}

function standardOutput(): (line: string) => void {
  const stream = pino.destination({ dest: 1, sync: true });
  return (line) => {
    stream.write(line);
  };
}

/** Some terminals and log viewers take these for the end of a line; JSON leaves them as they are. */
const LINE_SEPARATORS = /[\u0085\u2028\u2029]/g;

/** The last look at a line. Parsing it again costs microseconds and sees everything, whichever way it came in. */
function finish(line: string): string {
  const escaped = redactLine(line.trimEnd()).replace(LINE_SEPARATORS, escapeCharacter);
  return `${escaped}\n`;
}

function redactLine(line: string): string {
  try {
    return JSON.stringify(redact(JSON.parse(line)));
  } catch {
    return JSON.stringify({ level: 'error', msg: `unreadable log line: ${scrubText(line)}` });
  }
}

function escapeCharacter(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** No headers: they carry tokens. No query: it carries whatever a client put there. */
function describeRequest({ id, method, url, ip }: LoggedRequest): object {
  return { id, method, path: url === undefined ? undefined : withoutQuery(url), ip };
}

function describeReply({ statusCode }: { readonly statusCode?: number }): object {
  return { status: statusCode };
}
