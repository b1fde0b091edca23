import { join } from 'node:path';
import type { HostScripts, Privilege } from '@vpn-api/wg';
import type { AccessTokenAlgorithm } from '../crypto/access-tokens.ts';
import type { RateLimit } from '../http/rate-limit.ts';
import type { LogLevel } from '../obs/log.ts';
import { checkTogether } from './check.ts';
import { ConfigError, type ConfigIssue } from './config-error.ts';
import { deepFreeze, FrozenMap, SecretMap } from './frozen.ts';
import { nearestName } from './nearest-name.ts';
import { Secrets } from './secrets.ts';
import { type Values, type VariableName, variableNames, variables } from './variables.ts';

/** The environment as text; the one input of the configuration. */
export type Environment = Readonly<Record<string, string | undefined>>;

export type DatabaseConfig =
  | {
      readonly engine: 'sqlite';
      /** A file, or `:memory:`. */
      readonly path: string;
      /** Migrate at start; otherwise pending migrations stop it. */
      readonly migrateAtStart: boolean;
    }
  | {
      readonly engine: 'postgres';
      /** Holds the password. */
      readonly url: string;
      readonly poolSize: number;
      readonly migrateAtStart: boolean;
    };

/** The default server: where its peers live. */
export type HostConfig =
  | { readonly kind: 'none' }
  | { readonly kind: 'local'; readonly mode: HostMode }
  | { readonly kind: 'wg-easy'; readonly mode: HostMode; readonly url: string; readonly username: string | undefined }
  | ({ readonly kind: 'ssh'; readonly mode: HostMode } & SshHostConfig);

/** `observe`: changes are planned and shown, never made. */
export type HostMode = 'observe' | 'apply';

export interface SshHostConfig {
  /** `user@host` or `user@host:port`. */
  readonly address: string;
  /** Path of the private key; without it `~/.ssh/id_ed25519`, else the agent. */
  readonly keyFile: string | undefined;
  /** Pinned host key; without it the one that `~/.ssh/known_hosts` has. */
  readonly fingerprint: string | undefined;
  readonly privilege: Privilege;
}

/** Who makes the keys of peers where the host leaves the choice: the server (kept encrypted), or only the client. */
export type KeyPolicy = 'db' | 'client';

export interface WireguardConfig {
  readonly keyPolicy: KeyPolicy;
  /** Of the default server; `reported`: the host makes the keys. */
  readonly hostKeys: 'given' | 'reported';
  /** The operator's own scripts on the host of the default server. */
  readonly hostScripts: HostScripts;
  readonly interface: string;
  readonly serverPublicKey: string | undefined;
  /** `host:port`. */
  readonly endpoint: string | undefined;
  readonly poolV4: string;
  readonly poolV6: string | undefined;
  readonly dns: readonly string[];
  readonly mtu: number;
  /** What clients route through the tunnel. */
  readonly clientAllowedIps: readonly string[];
  readonly keepaliveSeconds: number;
  /** Make keys here even if the client sent a public key. */
  readonly ignoreClientKeys: boolean;
}

export interface AuthConfig {
  readonly algorithm: AccessTokenAlgorithm;
  readonly accessTokenSeconds: number;
  readonly refreshTokenSeconds: number;
  readonly bcryptCost: number;
  readonly allowSelfSubscribe: boolean;
}

export interface YookassaConfig {
  readonly apiUrl: string;
  readonly shopId: string;
  /** Networks that notices come from. */
  readonly webhookIps: readonly string[];
}

export interface PaymentsConfig {
  /** `whsec_…` secrets by name of sender; `standard` is `PAYMENT_WEBHOOK_SECRET`. */
  readonly standardSenders: ReadonlyMap<string, readonly string[]>;
  /** Each provider is there when its variables are; their secrets are in `Config.secrets`. */
  readonly stripe: { readonly apiUrl: string } | undefined;
  readonly yookassa: YookassaConfig | undefined;
  readonly cryptoPay: { readonly apiUrl: string } | undefined;
  readonly telegramStars: { readonly apiUrl: string } | undefined;
  /** Ages at which an unsettled payment is read again from its provider; the last repeats. */
  readonly pollSeconds: readonly number[];
}

/** Everything the environment decides, checked and frozen. */
export interface Config {
  readonly environment: 'development' | 'test' | 'production';
  readonly listen: { readonly host: string; readonly port: number };
  /** Without a slash at its end. */
  readonly publicUrl: string | undefined;
  readonly dataDir: string;
  readonly database: DatabaseConfig;
  readonly auth: AuthConfig;
  readonly host: HostConfig;
  readonly wireguard: WireguardConfig;
  readonly reconcileIntervalSeconds: number;
  readonly payments: PaymentsConfig;
  /** How many hours before the end of paid time a customer is told of it. */
  readonly expiryNoticeHours: readonly number[];
  readonly corsOrigins: readonly string[];
  /** CIDRs whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: readonly string[];
  /** CIDRs that outgoing calls may reach although private. */
  readonly outboundAllow: readonly string[];
  readonly rateLimits: ReadonlyMap<string, RateLimit>;
  readonly logLevel: LogLevel;
  readonly secrets: Secrets;
}

export interface LoadedConfig {
  readonly config: Config;
  /** Sentences for the log: names that look like ours and are not. */
  readonly warnings: readonly string[];
}

/**
 * Reads the whole configuration from an environment; reads nothing else and generates nothing.
 * @throws ConfigError that names every wrong variable
 */
export function loadConfig(env: Environment): LoadedConfig {
  const { values, issues } = readValues(env);
  const unreadable = new Set(issues.map(({ variable }) => variable));
  const all = [...issues, ...checkTogether(values, unreadable)];
  if (all.length > 0) throw new ConfigError(all);
  return deepFreeze({ config: build(values as Values), warnings: warnUnknown(env) });
}

/** What `openStore` of `@vpn-api/db` takes. */
export function storeUrl(database: DatabaseConfig): string {
  return database.engine === 'sqlite' ? `sqlite:${database.path}` : database.url;
}

function readValues(env: Environment): { values: Partial<Values>; issues: readonly ConfigIssue[] } {
  const values: Partial<Record<VariableName, unknown>> = {};
  const issues: ConfigIssue[] = [];
  for (const variable of variableNames) {
    const { schema, example } = variables[variable];
    const result = schema.safeParse(env[variable]?.trim() || undefined);
    if (result.success) values[variable] = result.data;
    else issues.push({ variable, message: result.error.issues[0]?.message ?? 'is wrong', example });
  }
  return { values: values as Partial<Values>, issues };
}

function build(values: Values): Config {
  return {
    environment: values.NODE_ENV,
    listen: { host: values.HOST, port: values.PORT },
    publicUrl: values.PUBLIC_URL,
    dataDir: values.DATA_DIR,
    database: buildDatabase(values),
    auth: buildAuth(values),
    host: buildHost(values),
    wireguard: buildWireguard(values),
    reconcileIntervalSeconds: values.RECONCILE_INTERVAL_SECONDS,
    payments: buildPayments(values),
    expiryNoticeHours: values.EXPIRY_NOTICE_HOURS,
    corsOrigins: values.CORS_ORIGINS ?? [],
    trustedProxies: values.TRUSTED_PROXIES ?? [],
    outboundAllow: values.OUTBOUND_ALLOW ?? [],
    rateLimits: new FrozenMap(values.RATE_LIMITS),
    logLevel: values.LOG_LEVEL,
    secrets: buildSecrets(values),
  };
}

function buildDatabase(values: Values): DatabaseConfig {
  const database = values.DATABASE_URL ?? { engine: 'sqlite' as const, path: join(values.DATA_DIR, 'vpn-api.db') };
  const migrateAtStart = values.DEV_INIT_DB ?? database.engine === 'sqlite';
  if (database.engine === 'sqlite') return { ...database, migrateAtStart };
  return { ...database, poolSize: values.DATABASE_POOL_SIZE, migrateAtStart };
}

function buildAuth(values: Values): AuthConfig {
  return {
    algorithm: values.ALGORITHM,
    accessTokenSeconds: values.ACCESS_TOKEN_EXPIRE_MINUTES * 60,
    refreshTokenSeconds: values.REFRESH_TOKEN_EXPIRE_DAYS * 86_400,
    bcryptCost: values.BCRYPT_COST,
    allowSelfSubscribe: values.ALLOW_SELF_SUBSCRIBE,
  };
}

/** A wg-easy is driven at once, since it has no other use; a host with a life of its own is looked at first. */
function buildHost(values: Values): HostConfig {
  const { WG_APPLY_ENABLED: apply, WG_EASY_URL: url, WG_HOST_SSH: address } = values;
  if (url !== undefined) {
    return { kind: 'wg-easy', mode: apply === false ? 'observe' : 'apply', url, username: values.WG_EASY_USERNAME };
  }
  if (address !== undefined) {
    return {
      kind: 'ssh',
      mode: apply === true ? 'apply' : 'observe',
      address,
      keyFile: values.WG_HOST_SSH_KEY,
      fingerprint: values.WG_HOST_FINGERPRINT,
      privilege: values.WG_HOST_PRIVILEGE ?? (address.startsWith('root@') ? 'direct' : 'sudo'),
    };
  }
  return apply === true ? { kind: 'local', mode: 'apply' } : { kind: 'none' };
}

function buildWireguard(values: Values): WireguardConfig {
  return {
    keyPolicy: values.WG_KEY_POLICY === 'client' ? 'client' : 'db',
    hostKeys: values.WG_EASY_URL !== undefined || values.WG_KEY_POLICY === 'host' ? 'reported' : 'given',
    hostScripts: {
      apply: values.WG_APPLY_SCRIPT,
      remove: values.WG_REMOVE_SCRIPT,
      generate: values.WG_GEN_SCRIPT,
    },
    interface: values.WG_INTERFACE,
    serverPublicKey: values.WG_SERVER_PUBLIC_KEY,
    endpoint: values.WG_ENDPOINT,
    poolV4: values.WG_POOL_V4,
    poolV6: values.WG_POOL_V6,
    dns: values.WG_DNS,
    mtu: values.WG_MTU,
    clientAllowedIps: values.WG_CLIENT_ALLOWED_IPS,
    keepaliveSeconds: values.WG_KEEPALIVE,
    ignoreClientKeys: values.WG_IGNORE_CLIENT_KEYS,
  };
}

function buildPayments(values: Values): PaymentsConfig {
  const standard = values.PAYMENT_WEBHOOK_SECRET;
  const senders = [...(standard ? [['standard', standard] as const] : []), ...(values.PAYMENT_WEBHOOK_SECRETS ?? [])];
  return {
    standardSenders: new SecretMap(senders),
    stripe:
      values.STRIPE_SECRET_KEY === undefined
        ? undefined
        : { apiUrl: values.STRIPE_API_URL ?? 'https://api.stripe.com' },
    yookassa: buildYookassa(values),
    cryptoPay:
      values.CRYPTO_PAY_TOKEN === undefined
        ? undefined
        : { apiUrl: values.CRYPTO_PAY_API_URL ?? 'https://pay.crypt.bot/api' },
    telegramStars:
      values.TELEGRAM_BOT_TOKEN === undefined
        ? undefined
        : { apiUrl: values.TELEGRAM_API_URL ?? 'https://api.telegram.org' },
    pollSeconds: values.PAYMENT_POLL_SECONDS,
  };
}

/** As YooKassa publishes them for notices. */
const YOOKASSA_NETWORKS: readonly string[] = [
  '185.71.76.0/27',
  '185.71.77.0/27',
  '77.75.153.0/25',
  '77.75.154.128/25',
  '77.75.156.11/32',
  '77.75.156.35/32',
  '2a02:5180::/32',
];

function buildYookassa(values: Values): YookassaConfig | undefined {
  if (values.YOOKASSA_SHOP_ID === undefined) return undefined;
  return {
    apiUrl: values.YOOKASSA_API_URL ?? 'https://api.yookassa.ru/v3',
    shopId: values.YOOKASSA_SHOP_ID,
    webhookIps: values.YOOKASSA_WEBHOOK_IPS ?? YOOKASSA_NETWORKS,
  };
}

function buildSecrets(values: Values): Secrets {
  return new Secrets({
    secretKey: present(values.SECRET_KEY),
    encryptionKeys: present(values.CONFIG_ENCRYPTION_KEY),
    promoteSecret: values.PROMOTE_SECRET,
    metricsToken: values.METRICS_TOKEN,
    stripe:
      values.STRIPE_SECRET_KEY === undefined
        ? undefined
        : { secretKey: values.STRIPE_SECRET_KEY, webhookSecret: present(values.STRIPE_WEBHOOK_SECRET) },
    yookassaSecretKey: values.YOOKASSA_SECRET_KEY,
    cryptoPayToken: values.CRYPTO_PAY_TOKEN,
    host: {
      password: values.WG_EASY_PASSWORD,
      apiKey: values.WG_API_KEY,
      passphrase: values.WG_HOST_SSH_PASSPHRASE,
    },
    telegram:
      values.TELEGRAM_BOT_TOKEN === undefined
        ? undefined
        : { botToken: values.TELEGRAM_BOT_TOKEN, webhookSecret: present(values.TELEGRAM_WEBHOOK_SECRET) },
  });
}

/** `checkTogether` refused the configuration if one of these was missing. */
function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a required variable was not checked');
  return value;
}

const OUR_PREFIX = /^(?:WG|PAYMENT|SMTP)_/;

function warnUnknown(env: Environment): readonly string[] {
  const known: ReadonlySet<string> = new Set(variableNames);
  return Object.keys(env)
    .filter((name) => OUR_PREFIX.test(name) && !known.has(name))
    .sort()
    .map((name) => `${name} is unknown and ignored; the nearest known name is ${nearestName(name, variableNames)}`);
}
