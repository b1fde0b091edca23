import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { type Config, loadConfig, storeUrl } from '../../src/config/config.ts';
import { ConfigError } from '../../src/config/config-error.ts';
import { unsupportedVariables } from '../../src/config/unsupported.ts';
import { type VariableName, variableNames, variables } from '../../src/config/variables.ts';

const SECRET_KEY = 'q7Zk2mVx9Lr4Tn8Ws1Yb6Hd3Pf5Gj0Cu+AeRiNo/xK';
const ENCRYPTION_KEY = Buffer.from('0123456789abcdefghijklmnopqrstuv').toString('base64');
const WEBHOOK_SECRET = `whsec_${Buffer.from('abcdefghijklmnopqrstuvwx').toString('base64')}`;
const WEBHOOK_SECRET_2 = `whsec_${Buffer.from('zyxwvutsrqponmlkjihgfedcba').toString('base64')}`;
const PUBLIC_KEY = 'HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=';

const required = { SECRET_KEY, CONFIG_ENCRYPTION_KEY: ENCRYPTION_KEY };

type Env = Record<string, string | undefined>;

function load(env: Env = {}): Config {
  return loadConfig({ ...required, ...env }).config;
}

function refusal(env: Env): ConfigError {
  try {
    loadConfig({ ...required, ...env });
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('the configuration was accepted');
}

function refused(env: Env): string[] {
  return refusal(env).issues.map(({ variable }) => variable);
}

describe('defaults', () => {
  test('two secrets alone make a configuration for development', () => {
    const config = load();
    expect(config).toMatchObject({
      environment: 'development',
      listen: { host: '127.0.0.1', port: 8000 },
      publicUrl: undefined,
      dataDir: './data',
      database: { engine: 'sqlite', path: 'data/vpn-api.db', migrateAtStart: true },
      auth: { algorithm: 'HS256', accessTokenSeconds: 3600, refreshTokenSeconds: 2_592_000, bcryptCost: 12 },
      host: { kind: 'none' },
      reconcileIntervalSeconds: 60,
      corsOrigins: [],
      trustedProxies: [],
      outboundAllow: [],
      logLevel: 'info',
    });
    expect(config.wireguard).toEqual({
      keyPolicy: 'db',
      hostKeys: 'given',
      hostScripts: {},
      interface: 'wg0',
      serverPublicKey: undefined,
      endpoint: undefined,
      poolV4: '10.8.0.0/24',
      poolV6: undefined,
      dns: ['1.1.1.1'],
      mtu: 1420,
      clientAllowedIps: ['0.0.0.0/0', '::/0'],
      keepaliveSeconds: 25,
      ignoreClientKeys: false,
    });
    expect(config.rateLimits.get('auth')).toEqual({ calls: 10, windowSeconds: 60 });
    expect(config.rateLimits.get('default')).toEqual({ calls: 600, windowSeconds: 60 });
    expect(config.payments.pollSeconds).toEqual([300, 3600, 86_400]);
    expect(config.payments.standardSenders.size).toBe(0);
  });

  test('an empty or blank value counts as unset for every variable', () => {
    const empty = Object.fromEntries(variableNames.map((name, index) => [name, index % 2 === 0 ? '' : '  ']));
    expect(JSON.stringify(load({ ...empty, ...required }))).toBe(JSON.stringify(load()));
  });

  test('a carriage return left by an editor is not part of a value', () => {
    expect(load({ PORT: '9000\r' }).listen.port).toBe(9000);
  });
});

describe('refusals', () => {
  test('a missing SECRET_KEY is named in the words that operators search for', () => {
    expect(() => loadConfig({})).toThrow('SECRET_KEY must be set');
    expect(() => loadConfig({ SECRET_KEY: '', NODE_ENV: 'production' })).toThrow('SECRET_KEY must be set');
  });

  test('a short SECRET_KEY is refused in the same words', () => {
    expect(() => load({ SECRET_KEY: 'x'.repeat(31) })).toThrow('SECRET_KEY must be set');
  });

  test('one error names every wrong variable with its reason and an example, and no value', () => {
    const error = refusal({ PORT: 'CANARY-1', WG_MTU: 'CANARY-2', BCRYPT_COST: '4', DATABASE_URL: 'mysql://CANARY-3' });
    expect(error.issues.map(({ variable }) => variable)).toEqual(['PORT', 'DATABASE_URL', 'BCRYPT_COST', 'WG_MTU']);
    expect(error.message).toContain('PORT must be a whole number from 0 to 65535 (for example PORT=8000)');
    expect(error.message).toContain('BCRYPT_COST must be a whole number from 10 to 15');
    expect(error.message).not.toContain('CANARY');
  });

  test('rules between variables are reported together with unreadable ones', () => {
    expect(refused({ PORT: 'x', NODE_ENV: 'production', ALLOW_SELF_SUBSCRIBE: '1' })).toEqual([
      'PORT',
      'ALLOW_SELF_SUBSCRIBE',
    ]);
  });

  const bad: readonly (readonly [VariableName, readonly string[]])[] = [
    ['NODE_ENV', ['prod', 'Production']],
    ['HOST', ['a b', 'http://x', '1.2.3', '-x']],
    ['PORT', ['-1', '65536', '80.5', '0x50', '1e3', '٣']],
    ['PUBLIC_URL', ['ftp://x', 'vpn.example.com', 'https://u:p@x', 'https://x/?a=1', 'https://x/#a']],
    ['DATABASE_POOL_SIZE', ['0', '101']],
    ['DEV_INIT_DB', ['yes', '2']],
    ['ALGORITHM', ['none', 'hs256', 'RS256']],
    ['ACCESS_TOKEN_EXPIRE_MINUTES', ['0', '1441']],
    ['REFRESH_TOKEN_EXPIRE_DAYS', ['0', '366']],
    ['BCRYPT_COST', ['9', '16']],
    [
      'CONFIG_ENCRYPTION_KEY',
      [
        'short',
        `${ENCRYPTION_KEY}A`,
        `a:${ENCRYPTION_KEY},a:${ENCRYPTION_KEY}`,
        `a b:${ENCRYPTION_KEY}`,
        `:${ENCRYPTION_KEY}`,
        `${ENCRYPTION_KEY},`,
      ],
    ],
    ['WG_INTERFACE', ['wg0;id', 'a/b', '..', 'interface-too-long', 'wg 0']],
    ['WG_SERVER_PUBLIC_KEY', ['x', `${'A'.repeat(43)}=`, PUBLIC_KEY.slice(0, -1), `${PUBLIC_KEY}\nPostUp = id`]],
    ['WG_ENDPOINT', ['vpn.example.com', 'x:0', 'x:65536', '::1:51820', '[::1]', 'x y:1', 'a:1\nPostUp=id', '1.2.3:5']],
    ['WG_POOL_V4', ['10.8.0.1/24', '10.8.0.0/31', '10.0.0.0/7', '127.0.0.0/24', 'fd00::/64', '10.8.0.0']],
    ['WG_POOL_V6', ['fd00::1/64', 'fd00::/127', 'fe80::/64', '10.8.0.0/24']],
    ['WG_DNS', ['dns.example.com', '1.1.1.1,,8.8.8.8', '1.1.1.1\nPostUp = id', '01.1.1.1', '1.1.1.1,1.1.1.1']],
    ['WG_MTU', ['575', '9001']],
    ['WG_CLIENT_ALLOWED_IPS', ['all', '10.8.0.1/24', '0.0.0.0/33', '0.0.0.0/0 ::/0']],
    ['WG_KEEPALIVE', ['65536', 'off']],
    ['WG_IGNORE_CLIENT_KEYS', ['maybe']],
    ['WG_APPLY_ENABLED', ['on']],
    ['RECONCILE_INTERVAL_SECONDS', ['0']],
    [
      'PAYMENT_WEBHOOK_SECRET',
      ['secret', 'whsec_', 'whsec_c2hvcnQ=', `whsec_${'A'.repeat(120)}`, `${WEBHOOK_SECRET},${WEBHOOK_SECRET_2}`],
    ],
    [
      'PAYMENT_WEBHOOK_SECRETS',
      [
        WEBHOOK_SECRET,
        `Bot=${WEBHOOK_SECRET}`,
        `stripe=${WEBHOOK_SECRET}`,
        `standard=${WEBHOOK_SECRET}`,
        `a=${WEBHOOK_SECRET},a=${WEBHOOK_SECRET_2}`,
        'a=',
        `1a=${WEBHOOK_SECRET}`,
      ],
    ],
    ['PAYMENT_POLL_SECONDS', ['5', '300;600', '300,300']],
    ['CORS_ORIGINS', ['*', 'null', 'example.com', 'https://x/path', 'https://x?y', 'https://u@x']],
    ['TRUSTED_PROXIES', ['proxy', '10.0.0.1/8', '::ffff:1.2.3.4', '10.0.0.0/33']],
    ['METRICS_TOKEN', ['short', 'has spaces in the middle']],
    ['OUTBOUND_ALLOW', ['localhost', '192.168.1.7/24']],
    [
      'RATE_LIMITS',
      ['auth', 'auth=10', 'auth=10/day', 'login=5/min', 'auth=-1/min', 'auth=1/min,auth=2/min', 'auth=9999999/min'],
    ],
    ['LOG_LEVEL', ['verbose']],
    ['ALLOW_SELF_SUBSCRIBE', ['si']],
    [
      'DATABASE_URL',
      [
        'x',
        'mysql://a/b',
        'sqlite:',
        'sqlite://two',
        'postgresql://',
        'postgresql://host',
        'postgresql:name',
        'postgresql://host:x/db',
      ],
    ],
  ];

  test.each(bad)('%s refuses what it cannot mean', (variable, values) => {
    for (const value of values) expect(refused({ [variable]: value }), value).toEqual([variable]);
  });

  test('every example and every default that can be copied is accepted', () => {
    const copyable = variableNames.filter((name) => !/\$\(|…|:\s/.test(variables[name].example));
    expect(copyable.length).toBeGreaterThan(30);
    for (const name of copyable) {
      const { schema, example } = variables[name];
      expect(schema.safeParse(example).success, `${name}=${example}`).toBe(true);
    }
  });
});

describe('payment providers', () => {
  const stripe = { STRIPE_SECRET_KEY: 'sk_test_canary1', STRIPE_WEBHOOK_SECRET: 'whsec_canary2' };
  const yookassa = { YOOKASSA_SHOP_ID: '506751', YOOKASSA_SECRET_KEY: 'live_canary3' };
  const cryptoPay = { CRYPTO_PAY_TOKEN: '12345:AAcanary4' };
  const publicUrl = { PUBLIC_URL: 'https://vpn.example.com' };
  const all = { ...stripe, ...yookassa, ...cryptoPay, ...publicUrl };

  test('are there when their variables are', () => {
    expect(load().payments).toMatchObject({ stripe: undefined, yookassa: undefined, cryptoPay: undefined });
    expect(load(all).payments).toMatchObject({
      stripe: { apiUrl: 'https://api.stripe.com' },
      yookassa: { apiUrl: 'https://api.yookassa.ru/v3', shopId: '506751' },
      cryptoPay: { apiUrl: 'https://pay.crypt.bot/api' },
    });
  });

  test('can be told other addresses', () => {
    const testnet = { CRYPTO_PAY_API_URL: 'https://testnet-pay.crypt.bot/api/' };
    const config = load({ ...all, ...testnet, YOOKASSA_WEBHOOK_IPS: '10.1.0.0/16, FD00::1' });
    expect(config.payments.cryptoPay?.apiUrl).toBe('https://testnet-pay.crypt.bot/api');
    expect(config.payments.yookassa?.webhookIps).toEqual(['10.1.0.0/16', 'fd00::1/128']);
  });

  test.each([
    ['STRIPE_WEBHOOK_SECRET', { ...publicUrl, STRIPE_SECRET_KEY: 'sk_live_1' }],
    ['STRIPE_SECRET_KEY', { STRIPE_WEBHOOK_SECRET: 'whsec_1' }],
    ['STRIPE_SECRET_KEY', { STRIPE_API_URL: 'https://stripe.example.com' }],
    ['YOOKASSA_SECRET_KEY', { ...publicUrl, YOOKASSA_SHOP_ID: '1' }],
    ['YOOKASSA_SHOP_ID', { YOOKASSA_SECRET_KEY: 'live_1' }],
    ['YOOKASSA_SHOP_ID', { YOOKASSA_WEBHOOK_IPS: '10.0.0.1' }],
    ['CRYPTO_PAY_TOKEN', { CRYPTO_PAY_API_URL: 'https://testnet-pay.crypt.bot/api' }],
    ['PUBLIC_URL', stripe],
    ['PUBLIC_URL', { ...stripe, ...yookassa }],
  ])('ask for %s when they cannot work without it', (missing, env) => {
    expect(refused(env)).toEqual([missing]);
  });

  test.each([
    ['STRIPE_SECRET_KEY', 'pk_live_1'],
    ['STRIPE_SECRET_KEY', 'sk_1'],
    ['STRIPE_WEBHOOK_SECRET', 'we_1'],
    ['YOOKASSA_SHOP_ID', 'shop'],
    ['YOOKASSA_SECRET_KEY', 'live 1'],
    ['CRYPTO_PAY_TOKEN', 'AAcanary'],
    ['YOOKASSA_WEBHOOK_IPS', 'everybody'],
    ['YOOKASSA_WEBHOOK_IPS', '185.71.76.1/27'],
  ])('%s=%s is refused alone, whatever else is set', (name, value) => {
    expect(refused({ ...all, [name]: value })).toEqual([name]);
  });

  test('are called over https in production, or on the same machine', () => {
    const telegram = { TELEGRAM_BOT_TOKEN: '1:AA', TELEGRAM_WEBHOOK_SECRET: 'canary5' };
    const production = { ...all, ...telegram, NODE_ENV: 'production' };
    for (const name of ['STRIPE_API_URL', 'YOOKASSA_API_URL', 'CRYPTO_PAY_API_URL', 'TELEGRAM_API_URL']) {
      expect(refused({ ...production, [name]: 'http://pay.example.com' })).toEqual([name]);
    }
    for (const url of ['http://stripe.example.com', 'http://127.0.0.1.example.com', 'http://10.0.0.1']) {
      expect(refused({ ...production, STRIPE_API_URL: url }), url).toEqual(['STRIPE_API_URL']);
    }
    for (const url of ['http://127.0.0.1:8080', 'http://localhost', 'http://[::1]:1', 'https://10.0.0.1']) {
      expect(load({ ...production, STRIPE_API_URL: url }).payments.stripe?.apiUrl, url).toBe(url);
    }
  });

  test('keep their secrets out of every way a configuration is printed', () => {
    const config = load(all);
    expect(config.secrets.stripe).toEqual({ secretKey: 'sk_test_canary1', webhookSecret: 'whsec_canary2' });
    expect(config.secrets.yookassaSecretKey).toBe('live_canary3');
    expect(config.secrets.cryptoPayToken).toBe('12345:AAcanary4');
    expect(`${inspect(config, { depth: null, showHidden: true })}${JSON.stringify(config)}`).not.toContain('canary');
  });
});

describe('features of later versions', () => {
  test.each(unsupportedVariables)('%s stops the start instead of being ignored', (name) => {
    const error = refusal({ [name]: variables[name].example });
    expect(error.message).toContain(`${name} is not supported by this version yet`);
    expect(error.issues).toHaveLength(1);
  });

  test.each([
    ['WG_EASY_URL', 'wg-easy:51821'],
    ['WG_HOST_SSH', 'host.example.com'],
    ['WG_HOST_SSH', 'root@host; id'],
    ['WG_HOST_FINGERPRINT', 'MD5:aa'],
    ['SMTP_URL', 'mail.example.com'],
  ])('%s is read first: %s is a wrong form, not a missing feature', (name, value) => {
    const error = refusal({ WG_HOST_SSH: 'vpn@host', [name]: value });
    expect(error.issues.map(({ variable }) => variable)).toEqual([name]);
    expect(error.message).not.toContain('not supported');
  });
});

describe('the default server', () => {
  const WG_EASY = { WG_EASY_URL: 'http://10.0.0.5:51821', WG_EASY_PASSWORD: 'canary' };
  const SSH = { WG_HOST_SSH: 'vpn@host' };

  test.each([
    [{}, { kind: 'none' }, 'given'],
    [{ WG_APPLY_ENABLED: '1' }, { kind: 'local', mode: 'apply' }, 'given'],
    [WG_EASY, { kind: 'wg-easy', mode: 'apply', url: WG_EASY.WG_EASY_URL }, 'reported'],
    [{ ...WG_EASY, WG_APPLY_ENABLED: '0' }, { kind: 'wg-easy', mode: 'observe' }, 'reported'],
    [SSH, { kind: 'ssh', mode: 'observe', address: 'vpn@host', privilege: 'sudo' }, 'given'],
    [
      { WG_HOST_SSH: 'root@[2001:db8::1]:2222', WG_APPLY_ENABLED: '1' },
      { mode: 'apply', privilege: 'direct' },
      'given',
    ],
    [{ ...SSH, WG_HOST_PRIVILEGE: 'kit', WG_KEY_POLICY: 'host' }, { privilege: 'kit' }, 'reported'],
    [{ ...SSH, WG_GEN_SCRIPT: '/opt/gen.sh', WG_KEY_POLICY: 'host' }, { kind: 'ssh' }, 'reported'],
  ])('of %o is %o', (settings, host, keys) => {
    const config = load({ ...settings });
    expect(config.host).toMatchObject(host);
    expect(config.wireguard.hostKeys).toBe(keys);
  });

  test('keeps its password where the other secrets are', () => {
    const config = load(WG_EASY);
    expect(config.secrets.host.password).toBe('canary');
    expect(`${inspect(config, { depth: null, showHidden: true })}${JSON.stringify(config)}`).not.toContain('canary');
  });

  test.each([
    [{ ...WG_EASY, ...SSH }, 'WG_HOST_SSH', 'name two default servers'],
    [{ WG_EASY_URL: WG_EASY.WG_EASY_URL }, 'WG_EASY_PASSWORD', 'must be set together with WG_EASY_URL'],
    [{ WG_EASY_PASSWORD: 'x' }, 'WG_EASY_URL', 'must be set together with WG_EASY_PASSWORD'],
    [{ WG_HOST_SSH_KEY: '/key' }, 'WG_HOST_SSH', 'must be set together with WG_HOST_SSH_KEY'],
    [{ ...WG_EASY, WG_KEY_POLICY: 'client' }, 'WG_KEY_POLICY', 'a wg-easy makes the keys itself'],
    [{ WG_KEY_POLICY: 'wg-easy' }, 'WG_EASY_URL', 'must be set together with WG_KEY_POLICY=wg-easy'],
    [{ ...SSH, WG_KEY_POLICY: 'host' }, 'WG_GEN_SCRIPT', 'must be set together with WG_KEY_POLICY=host'],
    [{ WG_APPLY_SCRIPT: '/opt/apply.sh' }, 'WG_APPLY_SCRIPT', 'needs WG_HOST_SSH'],
    [
      { ...SSH, WG_HOST_PRIVILEGE: 'kit', WG_APPLY_SCRIPT: '/x' },
      'WG_APPLY_SCRIPT',
      'cannot be used with the host kit',
    ],
  ])('of %o is refused: %s %s', (settings, variable, message) => {
    const error = refusal({ ...settings });
    expect(error.issues.map((issue) => issue.variable)).toEqual([variable]);
    expect(error.message).toContain(message);
  });
});

describe('production', () => {
  const production = { NODE_ENV: 'production' };

  test('needs both keys', () => {
    expect(() => loadConfig(production)).toThrow(/SECRET_KEY must be set[\s\S]*CONFIG_ENCRYPTION_KEY must be set/);
  });

  test('starts with real secrets', () => {
    const config = load({ ...production, PAYMENT_WEBHOOK_SECRET: WEBHOOK_SECRET, PROMOTE_SECRET: `${SECRET_KEY}2` });
    expect(config.environment).toBe('production');
  });

  test.each([
    ['SECRET_KEY', 'a'.repeat(64)],
    ['SECRET_KEY', 'change-me-change-me-change-me-change-me'],
    ['SECRET_KEY', 'your-secret-key-goes-here-0123456789abcdef'],
    ['CONFIG_ENCRYPTION_KEY', Buffer.alloc(32, 7).toString('base64')],
    ['PROMOTE_SECRET', 'bootstrap-secret'],
    ['PROMOTE_SECRET', 'ab'.repeat(20)],
    ['PROMOTE_SECRET', SECRET_KEY],
    ['METRICS_TOKEN', 'a'.repeat(32)],
    ['PAYMENT_WEBHOOK_SECRET', `whsec_${Buffer.alloc(32).toString('base64')}`],
    ['PAYMENT_WEBHOOK_SECRETS', `bot=whsec_${Buffer.alloc(32).toString('base64')}`],
    ['ALLOW_SELF_SUBSCRIBE', '1'],
  ])('a weak %s stops the start', (name, value) => {
    expect(refused({ ...production, [name]: value })).toEqual([name]);
    expect(() => load({ [name]: value })).not.toThrow();
  });

  test('a weak SECRET_KEY is refused in the words that operators search for', () => {
    expect(refusal({ ...production, SECRET_KEY: 'a'.repeat(64) }).message).toContain('SECRET_KEY must be set');
  });
});

describe('databases', () => {
  test.each([
    ['sqlite:data/x.db', 'data/x.db'],
    ['sqlite:/var/x.db', '/var/x.db'],
    ['sqlite:///x.db', 'x.db'],
    ['sqlite:////var/x.db', '/var/x.db'],
    ['sqlite::memory:', ':memory:'],
    ['sqlite+aiosqlite:///x.db', 'x.db'],
  ])('%s is the file %s', (url, path) => {
    const { database } = load({ DATABASE_URL: url });
    expect(database).toEqual({ engine: 'sqlite', path, migrateAtStart: true });
    expect(storeUrl(database)).toBe(`sqlite:${path}`);
  });

  test.each(['postgresql', 'postgres', 'postgresql+psycopg2', 'postgresql+asyncpg'])(
    '%s:// is PostgreSQL',
    (scheme) => {
      const { database } = load({
        DATABASE_URL: `${scheme}://u:p%40ss@db:5432/vpn?sslmode=require`,
        DATABASE_POOL_SIZE: '4',
      });
      const url = 'postgresql://u:p%40ss@db:5432/vpn?sslmode=require';
      expect(database).toEqual({ engine: 'postgres', url, poolSize: 4, migrateAtStart: false });
      expect(storeUrl(database)).toBe(url);
    },
  );

  test('the file lies in DATA_DIR unless it is named', () => {
    expect(load({ DATA_DIR: '/srv/vpn' }).database).toMatchObject({ path: '/srv/vpn/vpn-api.db' });
  });

  test('DEV_INIT_DB decides over the engine', () => {
    expect(load({ DEV_INIT_DB: '0' }).database.migrateAtStart).toBe(false);
    expect(load({ DEV_INIT_DB: '1', DATABASE_URL: 'postgres://db/x' }).database.migrateAtStart).toBe(true);
  });
});

describe('values', () => {
  test('WG_APPLY_ENABLED chooses the machine itself as host', () => {
    const { host, wireguard } = load({ WG_APPLY_ENABLED: '1', WG_INTERFACE: 'wg7' });
    expect(host).toEqual({ kind: 'local', mode: 'apply' });
    expect(wireguard.interface).toBe('wg7');
    expect(load({ WG_APPLY_ENABLED: '0' }).host).toEqual({ kind: 'none' });
  });

  test('addresses are read and printed again', () => {
    const config = load({
      WG_ENDPOINT: '[FD00:0::1]:51820',
      WG_POOL_V6: 'FD42:42:42::/64',
      WG_DNS: '1.1.1.1, 2606:4700:4700:0::1111',
      WG_CLIENT_ALLOWED_IPS: '10.0.0.0/8,10.9.9.9',
      TRUSTED_PROXIES: '127.0.0.1, ::1',
    });
    expect(config.wireguard).toMatchObject({
      endpoint: '[fd00::1]:51820',
      poolV6: 'fd42:42:42::/64',
      dns: ['1.1.1.1', '2606:4700:4700::1111'],
      clientAllowedIps: ['10.0.0.0/8', '10.9.9.9/32'],
    });
    expect(config.trustedProxies).toEqual(['127.0.0.1/32', '::1/128']);
  });

  test('the endpoint may be a name', () => {
    expect(load({ WG_ENDPOINT: 'vpn.example.com:51820' }).wireguard.endpoint).toBe('vpn.example.com:51820');
  });

  test('the server key is taken as it is', () => {
    expect(load({ WG_SERVER_PUBLIC_KEY: PUBLIC_KEY }).wireguard.serverPublicKey).toBe(PUBLIC_KEY);
  });

  test('IPv6 needs an MTU of 1280', () => {
    expect(refused({ WG_POOL_V6: 'fd00::/64', WG_MTU: '1279' })).toEqual(['WG_MTU']);
    expect(load({ WG_MTU: '1279' }).wireguard.mtu).toBe(1279);
  });

  test('client-only keys and ignoring the keys of clients exclude each other', () => {
    expect(refused({ WG_KEY_POLICY: 'client', WG_IGNORE_CLIENT_KEYS: '1' })).toEqual(['WG_IGNORE_CLIENT_KEYS']);
    expect(load({ WG_KEY_POLICY: 'client' }).wireguard.keyPolicy).toBe('client');
  });

  test('origins lose a slash at their end and nothing else', () => {
    expect(load({ CORS_ORIGINS: 'https://App.example.com/, http://localhost:5173' }).corsOrigins).toEqual([
      'https://app.example.com',
      'http://localhost:5173',
    ]);
    expect(load({ PUBLIC_URL: 'https://vpn.example.com/api/' }).publicUrl).toBe('https://vpn.example.com/api');
  });

  test('a limit that is left out keeps its default, and 0 switches one or all off', () => {
    const one = load({ RATE_LIMITS: 'auth=0' }).rateLimits;
    expect([one.get('auth')?.calls, one.get('default')?.calls]).toEqual([0, 600]);
    const all = load({ RATE_LIMITS: '0' }).rateLimits;
    expect([all.get('auth')?.calls, all.get('default')?.calls]).toEqual([0, 0]);
    expect(new Map(load({ RATE_LIMITS: 'default=5/s, auth=3/hour' }).rateLimits)).toEqual(
      new Map([
        ['auth', { calls: 3, windowSeconds: 3600 }],
        ['default', { calls: 5, windowSeconds: 1 }],
      ]),
    );
  });

  test('each sender has its own secrets, several for a rotation', () => {
    const { standardSenders } = load({
      PAYMENT_WEBHOOK_SECRET: `${WEBHOOK_SECRET} ${WEBHOOK_SECRET_2}`,
      PAYMENT_WEBHOOK_SECRETS: `telegram_bot=${WEBHOOK_SECRET_2}, shop2=${WEBHOOK_SECRET} ${WEBHOOK_SECRET_2}`,
    }).payments;
    expect([...standardSenders]).toEqual([
      ['standard', [WEBHOOK_SECRET, WEBHOOK_SECRET_2]],
      ['telegram_bot', [WEBHOOK_SECRET_2]],
      ['shop2', [WEBHOOK_SECRET, WEBHOOK_SECRET_2]],
    ]);
  });

  test('encryption keys are taken in either alphabet, with or without padding', () => {
    const bytes = Buffer.alloc(32, 0xfb);
    const spellings = [bytes.toString('base64'), bytes.toString('base64url'), `${bytes.toString('base64url')}=`];
    for (const text of spellings) {
      const [key] = load({ CONFIG_ENCRYPTION_KEY: text }).secrets.encryptionKeys;
      expect(Buffer.from(key?.key ?? [])).toEqual(bytes);
      expect(key?.id).toMatch(/^[0-9a-f]{8}$/);
    }
  });

  test('a ring of keys keeps its order and ids', () => {
    const other = Buffer.alloc(32, 3).toString('base64url');
    const { encryptionKeys } = load({ CONFIG_ENCRYPTION_KEY: `k2:${other},k1:${ENCRYPTION_KEY}` }).secrets;
    expect(encryptionKeys.map(({ id }) => id)).toEqual(['k2', 'k1']);
  });
});

describe('unknown names', () => {
  test('a misspelt name is a warning with the nearest known one, and never its value', () => {
    const { warnings } = loadConfig({
      ...required,
      WG_ENDPONIT: 'CANARY',
      PAYMENT_WEBHOOK_SECERT: 'CANARY',
      SMTP_URI: 'x',
    });
    expect(warnings).toEqual([
      'PAYMENT_WEBHOOK_SECERT is unknown and ignored; the nearest known name is PAYMENT_WEBHOOK_SECRET',
      'SMTP_URI is unknown and ignored; the nearest known name is SMTP_URL',
      'WG_ENDPONIT is unknown and ignored; the nearest known name is WG_ENDPOINT',
    ]);
  });

  test('names of others and our own raise no warning', () => {
    expect(loadConfig({ ...required, PATH: '/bin', HOME: '/', WGX: '1', WG_MTU: '1400' }).warnings).toEqual([]);
  });
});

describe('the configuration object', () => {
  const canaries = {
    SECRET_KEY: 'CANARY-secret-key-0123456789abcdefghij',
    PROMOTE_SECRET: 'CANARY-promote',
    METRICS_TOKEN: 'CANARY-metrics-token',
    PAYMENT_WEBHOOK_SECRET: WEBHOOK_SECRET,
  };

  test('is frozen to its depth, maps included', () => {
    const config = load();
    const open: string[] = [];
    const visit = (value: unknown, path: string): void => {
      if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
      if (!Object.isFrozen(value)) open.push(path);
      for (const [key, inner] of Object.entries(value)) visit(inner, `${path}.${key}`);
    };
    visit(config, 'config');
    expect(open).toEqual([]);
    expect(() => (config.rateLimits as Map<string, unknown>).set('auth', { calls: 0 })).toThrow(TypeError);
    expect(() => (config.payments.standardSenders as Map<string, unknown>).delete('standard')).toThrow(TypeError);
    expect(() => (config.rateLimits as Map<string, unknown>).clear()).toThrow(TypeError);
  });

  test('prints no secret as JSON, in a template or in a debugger', () => {
    const config = load(canaries);
    const { secrets, payments } = config;
    const printed = [
      JSON.stringify(config),
      inspect(config, { depth: 20, showHidden: true }),
      `${secrets} ${payments.standardSenders}`,
      JSON.stringify({ ...config.payments }),
      inspect(secrets, { customInspect: false, showHidden: true, depth: 20 }),
    ].join('\n');
    for (const secret of Object.values(canaries)) expect(printed).not.toContain(secret.slice(6));
    expect(printed).not.toContain(ENCRYPTION_KEY);
    expect(secrets.promoteSecret).toBe('CANARY-promote');
    expect(secrets.metricsToken).toBe('CANARY-metrics-token');
  });

  test('secrets can be replaced for a test without being read', () => {
    const changed = load(canaries).secrets.with({ promoteSecret: undefined });
    expect(changed.promoteSecret).toBeUndefined();
    expect(changed.secretKey).toBe(canaries.SECRET_KEY);
  });
});
