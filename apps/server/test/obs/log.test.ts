import { describe, expect, test } from 'vitest';
import { createLogger, type Logger } from '../../src/obs/log.ts';
import { scrubText } from '../../src/obs/redact.ts';

function capture(level: 'info' | 'warn' = 'info'): { log: Logger; lines: string[] } {
  const lines: string[] = [];
  return { log: createLogger({ level, write: (line) => lines.push(line) }), lines };
}

/** Logs one thing and answers the line as text and as JSON. */
function logged(act: (log: Logger) => void): { text: string; fields: Record<string, unknown> } {
  const { log, lines } = capture();
  act(log);
  expect(lines).toHaveLength(1);
  const [text = ''] = lines;
  expect(text.endsWith('\n')).toBe(true);
  expect(text.slice(0, -1)).not.toContain('\n');
  return { text, fields: JSON.parse(text) };
}

const jwt = 'eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIxNyJ9.CANARYsignature0123456789';
const wgKey = 'CANARYkeyCANARYkeyCANARYkeyCANARYkeyCANARY0=';

test('a line has an ISO time, a level name, the fields and the message', () => {
  const { fields } = logged((log) => log.info({ request_id: 'r1', path: 'peer.createSelf' }, 'done'));
  expect(fields).toEqual({
    level: 'info',
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    request_id: 'r1',
    path: 'peer.createSelf',
    msg: 'done',
  });
});

test('less than the level is not written', () => {
  const { log, lines } = capture('warn');
  log.info('no');
  log.warn('yes');
  expect(lines).toHaveLength(1);
});

describe('canaries never reach a line', () => {
  test.each([
    'authorization',
    'Authorization',
    'proxy-authorization',
    'cookie',
    'set-cookie',
    'password',
    'new_password',
    'hashed_password',
    'password_hash',
    'secret',
    'SECRET_KEY',
    'promoteSecret',
    'token',
    'access_token',
    'refresh_token',
    'refreshToken',
    'token_hash',
    'private_key',
    'wg_private_key',
    'privateKey',
    'private_key_sealed',
    'preshared_key',
    'presharedKey',
    'wg_quick',
    'api_key',
    'CONFIG_ENCRYPTION_KEY',
    'encryptionKeys',
    'init_data',
    'raw_body',
    'raw',
    'webhook-signature',
    'DATABASE_URL',
    'query',
    'psk',
  ])('under the key %s, at any depth and in child loggers', (key) => {
    const { log, lines } = capture();
    log.info({ [key]: 'CANARY' });
    log.info({ a: { b: [{ c: { [key]: ['CANARY'] } }] } });
    log.child({ [key]: 'CANARY', deep: { [key]: 'CANARY' } }).info('x');
    log.error({ err: Object.assign(new Error('x'), { [key]: 'CANARY', config: { [key]: 'CANARY' } }) });
    expect(lines).toHaveLength(4);
    expect(lines.join('')).not.toContain('CANARY');
    expect(lines.join('')).toContain('[redacted]');
  });

  test.each([
    ['a webhook secret', 'whsec_CANARY0123456789abcdef/+=='],
    ['a key of Stripe', 'rk_live_51CANARY0123456789abcdef'],
    ['a token of a bot', '12345:AACANARY0123456789-abcdef_g'],
    ['an API key', 'vpk_CANARY0123456789abcdefghij'],
    ['an access token', jwt],
    ['a bearer header', 'Bearer CANARY-0123456789'],
    ['a basic header', 'authorization: Basic CANARY0123456789=='],
    ['a database address', 'connect ECONNREFUSED postgres://vpn:CANARY@db/vpn'],
    ['a database password with every sign', 'postgresql://vpn:CANARY/@:p?@db:5432/vpn'],
    ['an address with a driver', 'postgresql+psycopg2://vpn:CANARY@db/vpn'],
    ['a wg-easy address', 'GET http://admin:CANARY@10.0.0.5:51821/api'],
    ['a mail server', 'smtps://user:CANARY@mail.example.com'],
    ['a config', `[Interface]\nPrivateKey = ${wgKey}\nAddress = 10.8.0.2/32`],
    ['a preshared key', `PresharedKey=${wgKey}`],
    ['a query string of an address', 'https://vpn.example.com/auth/admin/promote?secret=CANARY'],
    ['a query string of a request', 'POST /auth/admin/promote?user_id=4&secret=CANARY HTTP/1.1'],
  ])('%s in a message, a field, an error, its cause, its stack', (_name, text) => {
    const { log, lines } = capture();
    log.info(text);
    log.info('%s', text);
    log.info({ note: text, list: [text] }, 'x');
    log.error({ err: new Error('outer', { cause: new TypeError(text) }) }, 'x');
    log.error(new Error(text));
    log.child({ note: text }).info('x');
    log.info({ req: { method: 'GET', url: `/x?${text}`, headers: { authorization: text } } });
    expect(lines).toHaveLength(7);
    for (const line of lines) {
      expect(line).not.toContain('CANARY');
      expect(() => JSON.parse(line)).not.toThrow();
    }
  });

  test('a request is its method and path: no query, no headers', () => {
    const req = { id: 'r1', method: 'GET', url: '/peers?token=CANARY', ip: '10.0.0.1', headers: { cookie: 'CANARY' } };
    const { fields } = logged((log) => log.info({ req, res: { statusCode: 200, headers: {} } }, 'x'));
    expect(fields).toMatchObject({
      req: { id: 'r1', method: 'GET', path: '/peers', ip: '10.0.0.1' },
      res: { status: 200 },
    });
    expect(Object.keys(fields.req as object)).toEqual(['id', 'method', 'path', 'ip']);
  });

  test('a field that holds a request target loses its query', () => {
    const { fields } = logged((log) =>
      log.info({ url: '/a?b=CANARY', path: '/c?d=CANARY#e', referer: 'https://x/y?z' }),
    );
    expect(fields).toMatchObject({ url: '/a', path: '/c', referer: 'https://x/y' });
  });
});

describe('what is no secret stays readable', () => {
  test.each([
    ['token_version', 3],
    ['token_type', 'bearer'],
    ['user_id', 17],
    ['code', 'invalid_credentials'],
    ['wg_public_key', 'HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw='],
    ['key_id', 4],
    ['url', 'http://10.0.0.5:51821/api'],
    ['password', null],
  ])('%s', (key, value) => {
    expect(logged((log) => log.info({ [key]: value })).fields[key]).toBe(value);
  });

  test('an error keeps its type, message and stack', () => {
    const { fields } = logged((log) => log.error({ err: new RangeError('too far') }, 'x'));
    expect(fields.err).toMatchObject({
      type: 'RangeError',
      message: 'too far',
      stack: expect.stringContaining('log.test'),
    });
  });
});

describe('a line stays one line of JSON', () => {
  test.each(['a\nb', 'a\r\n{"level":"info"}', 'a\u2028b', 'a\u0085b', '\u001b[31mred', '"}\\', '\ud800', 'a\0b'])(
    '%j',
    (text) => {
      const { text: line, fields } = logged((log) => log.info({ note: text }, text));
      // biome-ignore lint/suspicious/noControlCharactersInRegex: their absence is the guarantee
      expect(line.slice(0, -1)).not.toMatch(/[\u0000-\u001f\u0085\u2028\u2029]/);
      expect(fields.note).toBe(text);
    },
  );

  test('an object that contains itself or never ends is cut off', () => {
    const endless: Record<string, unknown> = {};
    endless.self = endless;
    expect(logged((log) => log.info({ endless })).fields.endless).toBeDefined();
  });

  test.each([
    'eyJ-'.repeat(25_000),
    'eyJa.'.repeat(20_000),
    'a://'.repeat(25_000),
    'a://b:'.repeat(16_000),
    'http://'.repeat(14_000),
    'postgres://:'.repeat(8_000),
    'GET /'.repeat(20_000),
    'whsec_'.repeat(16_000),
    'Bearer '.repeat(14_000),
    'a'.repeat(100_000),
  ])('a hostile text of 100 KB is searched in linear time: %.10s', (text) => {
    const started = performance.now();
    scrubText(text);
    // Quadratic search of these texts takes many seconds.
    expect(performance.now() - started).toBeLessThan(1500);
  });
});
