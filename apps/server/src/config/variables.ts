import { KeyError, parsePublicKey } from '@vpn-api/wg';
import { z } from 'zod';
import { parseSshAddress } from '../domain/ssh-address.ts';
import {
  address,
  anyText,
  cidr,
  commaList,
  endpoint,
  flag,
  httpUrl,
  listenHost,
  matching,
  oneOf,
  origin,
  type Parser,
  pool,
  Refusal,
  smtpUrl,
  wholeNumber,
} from './parse.ts';
import { parseDatabaseUrl } from './parse-database.ts';
import { parseRateLimits } from './parse-rate-limits.ts';
import { parseEncryptionKeys, parseNamedSenders, parseWebhookSecrets } from './parse-secrets.ts';

/** bcrypt and HMAC keys shorter than this can be searched. */
export const MIN_SECRET_BYTES = 32;

const secretKey: Parser<string> = (text) => {
  if (Buffer.byteLength(text) < MIN_SECRET_BYTES)
    throw new Refusal(`must be set to at least ${MIN_SECRET_BYTES} bytes`);
  return text;
};

const metricsToken = matching(/^[\x21-\x7e]{16,}$/, 'must be at least 16 printable characters without spaces');

/** The mode is part of the key: events of the other mode must never touch this database. */
const stripeKey = matching(
  /^[sr]k_(?:live|test)_[\x21-\x7e]+$/,
  'must begin with sk_live_, rk_live_, sk_test_ or rk_test_',
);

const serverPublicKey: Parser<string> = (text) => {
  try {
    return parsePublicKey(text);
  } catch (error) {
    if (error instanceof KeyError) throw new Refusal('must be a WireGuard public key: base64 of 32 bytes');
    throw error;
  }
};

/** What wg-quick and the kernel take as the name of an interface. */
const interfaceName = matching(
  /^(?!\.{1,2}$)[A-Za-z0-9_=+.-]{1,15}$/,
  'must be an interface name of at most 15 characters',
);
const sshTarget: Parser<string> = (text) => {
  if (parseSshAddress(text) === undefined) throw new Refusal('must be user@host[:port]');
  return text;
};

/** An optional variable: its parser, and a value to copy for the message when it is wrong. */
function optional<T>(parse: Parser<T>, example: string) {
  return { schema: toSchema(parse).optional(), example };
}

/** A variable with a default, written as an operator would write it. */
function withDefault<T>(parse: Parser<T>, defaultText: string, example = defaultText) {
  return { schema: toSchema(parse).prefault(defaultText), example };
}

function toSchema<T>(parse: Parser<T>) {
  return z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
      return z.NEVER;
    }
  });
}

const randomExample = '$(openssl rand -base64 48)';

/** Every variable there is. What depends on several of them is decided in `config.ts`. */
export const variables = {
  NODE_ENV: withDefault(oneOf('development', 'test', 'production'), 'development', 'production'),
  HOST: withDefault(listenHost, '127.0.0.1', '0.0.0.0'),
  PORT: withDefault(wholeNumber(0, 65_535), '8000'),
  PUBLIC_URL: optional(httpUrl, 'https://vpn.example.com'),
  DATA_DIR: withDefault(anyText, './data', '/var/lib/vpn-api'),
  DATABASE_URL: optional(parseDatabaseUrl, 'postgresql://vpn:password@127.0.0.1:5432/vpn'),
  DATABASE_POOL_SIZE: withDefault(wholeNumber(1, 100), '10'),
  DEV_INIT_DB: optional(flag, '1'),
  SECRET_KEY: optional(secretKey, randomExample),
  ALGORITHM: withDefault(oneOf('HS256', 'HS384', 'HS512'), 'HS256'),
  ACCESS_TOKEN_EXPIRE_MINUTES: withDefault(wholeNumber(1, 1440), '60'),
  REFRESH_TOKEN_EXPIRE_DAYS: withDefault(wholeNumber(1, 365), '30'),
  PROMOTE_SECRET: optional(anyText, randomExample),
  BCRYPT_COST: withDefault(wholeNumber(10, 15), '12'),
  CONFIG_ENCRYPTION_KEY: optional(parseEncryptionKeys, '$(openssl rand -base64 32)'),
  WG_KEY_POLICY: optional(oneOf('db', 'host', 'wg-easy', 'client'), 'db'),
  WG_EASY_URL: optional(httpUrl, 'http://10.0.0.5:51821'),
  WG_EASY_USERNAME: optional(anyText, 'admin'),
  WG_EASY_PASSWORD: optional(anyText, 'the password of the wg-easy page'),
  WG_API_KEY: optional(anyText, 'the key of the wg-easy API'),
  WG_HOST_SSH: optional(sshTarget, 'vpn@host.example.com:22'),
  WG_HOST_SSH_KEY: optional(anyText, '/etc/vpn-api/id_ed25519'),
  WG_HOST_FINGERPRINT: optional(
    matching(/^SHA256:[A-Za-z0-9+/]{43}$/, 'must be SHA256: and 43 characters, as ssh-keygen -lf prints it'),
    'SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU',
  ),
  WG_HOST_SSH_PASSPHRASE: optional(anyText, 'of the private key file, when it is encrypted'),
  WG_HOST_PRIVILEGE: optional(oneOf('direct', 'sudo', 'kit'), 'sudo'),
  WG_APPLY_ENABLED: optional(flag, '1'),
  WG_INTERFACE: withDefault(interfaceName, 'wg0'),
  WG_APPLY_SCRIPT: optional(anyText, '/usr/local/sbin/wg_apply.sh'),
  WG_REMOVE_SCRIPT: optional(anyText, '/usr/local/sbin/wg_remove.sh'),
  WG_GEN_SCRIPT: optional(anyText, '/usr/local/sbin/wg_gen.sh'),
  WG_SERVER_PUBLIC_KEY: optional(serverPublicKey, 'the answer of: wg show wg0 public-key'),
  WG_ENDPOINT: optional(endpoint, 'vpn.example.com:51820'),
  WG_POOL_V4: withDefault(pool(4), '10.8.0.0/24'),
  WG_POOL_V6: optional(pool(6), 'fd42:42:42::/64'),
  WG_DNS: withDefault(commaList(address), '1.1.1.1', '1.1.1.1, 9.9.9.9'),
  WG_MTU: withDefault(wholeNumber(576, 9000), '1420'),
  WG_CLIENT_ALLOWED_IPS: withDefault(commaList(cidr), '0.0.0.0/0, ::/0'),
  WG_KEEPALIVE: withDefault(wholeNumber(0, 65_535), '25'),
  WG_IGNORE_CLIENT_KEYS: withDefault(flag, '0'),
  RECONCILE_INTERVAL_SECONDS: withDefault(wholeNumber(1, 86_400), '60'),
  PAYMENT_WEBHOOK_SECRET: optional(parseWebhookSecrets, 'whsec_$(openssl rand -base64 32)'),
  PAYMENT_WEBHOOK_SECRETS: optional(parseNamedSenders, 'telegram_bot=whsec_$(openssl rand -base64 32)'),
  STRIPE_SECRET_KEY: optional(stripeKey, 'sk_live_…'),
  STRIPE_WEBHOOK_SECRET: optional(matching(/^whsec_[\x21-\x7e]+$/, 'must begin with whsec_'), 'whsec_…'),
  YOOKASSA_SHOP_ID: optional(matching(/^\d{1,20}$/, 'must be a number'), '123456'),
  YOOKASSA_SECRET_KEY: optional(matching(/^[\x21-\x7e]+$/, 'must be printable characters without spaces'), 'live_…'),
  YOOKASSA_WEBHOOK_IPS: optional(commaList(cidr), '185.71.76.0/27, 77.75.156.11'),
  CRYPTO_PAY_TOKEN: optional(matching(/^\d+:[A-Za-z0-9_-]+$/, 'must be number:text'), '12345:AAzQ…'),
  TELEGRAM_BOT_TOKEN: optional(matching(/^\d+:[A-Za-z0-9_-]+$/, 'must be number:text'), '12345:AAzQ…'),
  TELEGRAM_WEBHOOK_SECRET: optional(
    matching(/^[A-Za-z0-9_-]{1,256}$/, 'must be 1 to 256 letters, digits, "_" or "-"'),
    '$(openssl rand -hex 32)',
  ),
  STRIPE_API_URL: optional(httpUrl, 'https://api.stripe.com'),
  YOOKASSA_API_URL: optional(httpUrl, 'https://api.yookassa.ru/v3'),
  CRYPTO_PAY_API_URL: optional(httpUrl, 'https://pay.crypt.bot/api'),
  TELEGRAM_API_URL: optional(httpUrl, 'https://api.telegram.org'),
  PAYMENT_POLL_SECONDS: withDefault(commaList(wholeNumber(10, 2_592_000)), '300,3600,86400'),
  EXPIRY_NOTICE_HOURS: withDefault(commaList(wholeNumber(1, 8_760)), '72,24'),
  SMTP_URL: optional(smtpUrl, 'smtps://user:password@mail.example.com'),
  MAIL_FROM: optional(matching(/^[^\r\n@]+@[^\r\n@]+$/, 'must be one mail address'), 'VPN <vpn@example.com>'),
  CORS_ORIGINS: optional(commaList(origin), 'https://app.example.com'),
  TRUSTED_PROXIES: optional(commaList(cidr), '10.0.0.2, 172.16.0.0/12'),
  METRICS_TOKEN: optional(metricsToken, '$(openssl rand -hex 32)'),
  OUTBOUND_ALLOW: optional(commaList(cidr), '192.168.1.0/24'),
  RATE_LIMITS: withDefault(parseRateLimits, 'auth=10/min,default=600/min'),
  LOG_LEVEL: withDefault(oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'), 'info'),
  ALLOW_SELF_SUBSCRIBE: withDefault(flag, '0'),
} as const;

export type VariableName = keyof typeof variables;

/** What each variable was read as. */
export type Values = { readonly [K in VariableName]: z.output<(typeof variables)[K]['schema']> };

export const variableNames = Object.keys(variables) as readonly VariableName[];
