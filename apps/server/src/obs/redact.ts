/** What stands in the log where a secret would have stood. */
export const REDACTED = '[redacted]';

/** Deeper than any object we log on purpose; what lies below is cut off rather than searched. */
const MAX_DEPTH = 8;

/** Compared with a key in lower case and without `_` and `-`. Ends of names, so that `token_version` stays readable. */
const SECRET_KEY_NAME =
  /(?:password|passwd|passphrase|pepper|secret|secrets|token|tokens|tokenhash|passwordhash|authorization|cookie|privatekey|presharedkey|psk|wgquick|apikey|secretkey|encryptionkey|encryptionkeys|initdata|rawbody|sealed|signature|databaseurl|connectionstring)$/;
/** Whole names that are too short to match as an end. */
const SECRET_NAMES: ReadonlySet<string> = new Set(['raw', 'query', 'querystring', 'search', 'searchparams']);
/** Request targets and addresses: what follows the `?` may hold a secret and is never logged. */
const URL_NAMES: ReadonlySet<string> = new Set(['url', 'uri', 'path', 'href', 'location', 'referer', 'originalurl']);

/**
 * Copies parsed JSON, blanks the values of secret-sounding keys at any depth and scrubs every text. It works on the
 * finished line rather than on what callers pass, so that fields of child loggers, errors and serializers are seen too.
 */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return scrubText(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= MAX_DEPTH) return REDACTED;
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [scrubText(key), redactEntry(key, inner, depth)]),
  );
}

/** The path of a request target or address, without its query string and fragment. */
export function withoutQuery(url: string): string {
  const [path = ''] = url.split(/[?#]/, 1);
  return path;
}

function redactEntry(key: string, value: unknown, depth: number): unknown {
  const name = key.toLowerCase().replaceAll(/[_-]/g, '');
  if (SECRET_NAMES.has(name) || SECRET_KEY_NAME.test(name)) return value === null ? value : REDACTED;
  if (typeof value === 'string' && URL_NAMES.has(name)) return scrubText(withoutQuery(value));
  return redact(value, depth + 1);
}

/**
 * Shapes of secrets, for text that no key announces: messages, stacks, errors of libraries. Every repetition is bounded,
 * so that a hostile text costs linear time.
 */
const SECRET_SHAPES: readonly (readonly [RegExp, string])[] = [
  [/whsec_[A-Za-z0-9+/=_-]{4,512}/g, `whsec_${REDACTED}`],
  [/vpk_[A-Za-z0-9_-]{8,512}/g, `vpk_${REDACTED}`],
  [/\b([sr]k_(?:live|test)_)[A-Za-z0-9_]{4,512}/g, `$1${REDACTED}`],
  // Tokens of Telegram bots and of Crypto Pay.
  [/\b(\d{4,20}:)AA[A-Za-z0-9_-]{8,128}/g, `$1${REDACTED}`],
  [/\beyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{2,4096}(?:\.[A-Za-z0-9_-]{0,1024})?/g, REDACTED],
  // The password of a database or mail address may hold any character, so everything up to the last @ goes.
  [/\b((?:postgres|mysql|redis|amqp|smtp)[a-z0-9+]{0,16}:\/\/)[^\s:@]{0,256}:\S{0,512}@/gi, `$1${REDACTED}@`],
  [/\b([a-z][a-z0-9+.-]{1,15}:\/\/)[^\s/@:]{0,256}:[^\s/@]{0,512}@/gi, `$1${REDACTED}@`],
  [/\b(Bearer|Basic) {1,4}[A-Za-z0-9._~+/=-]{8,4096}/gi, `$1 ${REDACTED}`],
  [/(PrivateKey|PresharedKey) {0,4}= {0,4}[A-Za-z0-9+/]{42,43}=?/gi, `$1 = ${REDACTED}`],
  [/\b((?:https?|wss?):\/\/[^\s"?]{1,512})\?[^\s"]{1,4096}/gi, '$1'],
  [/\b((?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) {1,4}\/[^\s"?]{0,1024})\?[^\s"]{1,4096}/g, '$1'],
];

/** Something that each of the shapes holds: nearly every text of a log has none of these and is done with here. */
const MAY_HOLD_SECRET = /whsec_|vpk_|[sr]k_live_|[sr]k_test_|:AA|eyJ|:\/\/|bearer|basic|privatekey|presharedkey|\?/i;

/** Replaces what has the shape of a secret, and cuts query strings off addresses. */
export function scrubText(text: string): string {
  if (!MAY_HOLD_SECRET.test(text)) return text;
  return SECRET_SHAPES.reduce((scrubbed, [shape, replacement]) => scrubbed.replace(shape, replacement), text);
}
