import type { ConfigIssue } from './config-error.ts';
import { looksWeak } from './parse-secrets.ts';
import { unsupportedVariables } from './unsupported.ts';
import { MIN_SECRET_BYTES, type Values, type VariableName, variables } from './variables.ts';

type Report = (variable: VariableName, message: string, example?: string) => void;

const NOT_RANDOM = 'looks like a placeholder, not like random text';

/** The rules between variables. Those that could not be read are absent here and were reported already. */
export function checkTogether(values: Partial<Values>, unreadable: ReadonlySet<VariableName>): readonly ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const report: Report = (variable, message, example) => issues.push({ variable, message, example });
  checkRequired(values, unreadable, report);
  checkUnsupported(values, report);
  checkWireguard(values, report);
  checkProviders(values, unreadable, report);
  if (values.NODE_ENV === 'production') checkProduction(values, report);
  return issues;
}

function checkRequired(values: Partial<Values>, unreadable: ReadonlySet<VariableName>, report: Report): void {
  const missing = (name: VariableName) => values[name] === undefined && !unreadable.has(name);
  if (missing('SECRET_KEY')) {
    report('SECRET_KEY', `must be set: at least ${MIN_SECRET_BYTES} random bytes`, variables.SECRET_KEY.example);
  }
  if (missing('CONFIG_ENCRYPTION_KEY')) {
    const { example } = variables.CONFIG_ENCRYPTION_KEY;
    report('CONFIG_ENCRYPTION_KEY', 'must be set: base64 of 32 random bytes, kept as safe as the database', example);
  }
}

function checkUnsupported(values: Partial<Values>, report: Report): void {
  for (const name of unsupportedVariables) {
    if (values[name] !== undefined) report(name, 'is not supported by this version yet; remove it');
  }
}

function checkWireguard(values: Partial<Values>, report: Report): void {
  if (values.WG_EASY_URL !== undefined && values.WG_HOST_SSH !== undefined) {
    report('WG_HOST_SSH', 'and WG_EASY_URL name two default servers; keep one');
  }
  checkWgEasy(values, report);
  checkHostKeys(values, report);
  if (values.WG_POOL_V6 !== undefined && values.WG_MTU !== undefined && values.WG_MTU < 1280) {
    report('WG_MTU', 'must be at least 1280 when WG_POOL_V6 is set: IPv6 needs it', variables.WG_MTU.example);
  }
  if (values.WG_KEY_POLICY === 'client' && values.WG_IGNORE_CLIENT_KEYS === true) {
    report('WG_IGNORE_CLIENT_KEYS', 'must be 0 with WG_KEY_POLICY=client: there would be no keys at all', '0');
  }
}

function checkWgEasy({ WG_EASY_URL, WG_EASY_PASSWORD, WG_API_KEY }: Partial<Values>, report: Report): void {
  if (WG_EASY_URL === undefined || WG_EASY_PASSWORD !== undefined || WG_API_KEY !== undefined) return;
  report('WG_EASY_PASSWORD', 'must be set together with WG_EASY_URL', variables.WG_EASY_PASSWORD.example);
}

function checkHostKeys(values: Partial<Values>, report: Report): void {
  const { WG_KEY_POLICY: policy, WG_EASY_URL, WG_HOST_SSH, WG_APPLY_ENABLED, WG_GEN_SCRIPT } = values;
  const isShell = WG_EASY_URL === undefined && (WG_HOST_SSH !== undefined || WG_APPLY_ENABLED === true);
  if (WG_EASY_URL !== undefined && policy !== undefined && policy !== 'wg-easy') {
    report('WG_KEY_POLICY', `cannot be ${policy} with WG_EASY_URL: a wg-easy makes the keys itself`, 'wg-easy');
  }
  if (WG_EASY_URL === undefined && policy === 'wg-easy') {
    report('WG_EASY_URL', 'must be set together with WG_KEY_POLICY=wg-easy', variables.WG_EASY_URL.example);
  }
  if (policy === 'host' && (!isShell || (WG_GEN_SCRIPT === undefined && values.WG_HOST_PRIVILEGE !== 'kit'))) {
    report('WG_GEN_SCRIPT', 'must be set together with WG_KEY_POLICY=host, on a host over SSH or on this machine');
  }
  for (const name of ['WG_APPLY_SCRIPT', 'WG_REMOVE_SCRIPT', 'WG_GEN_SCRIPT'] as const) {
    const path = values[name];
    if (path !== undefined && !isShell) report(name, 'needs WG_HOST_SSH, or WG_APPLY_ENABLED=1 on the host itself');
    else if (path !== undefined && values.WG_HOST_PRIVILEGE === 'kit') report(name, 'cannot be used with the host kit');
  }
}

/** What makes sense only together with something else: [variable, what it needs]. */
const needs: readonly (readonly [VariableName, VariableName])[] = [
  ['STRIPE_SECRET_KEY', 'STRIPE_WEBHOOK_SECRET'],
  ['STRIPE_WEBHOOK_SECRET', 'STRIPE_SECRET_KEY'],
  ['STRIPE_API_URL', 'STRIPE_SECRET_KEY'],
  ['YOOKASSA_SHOP_ID', 'YOOKASSA_SECRET_KEY'],
  ['YOOKASSA_SECRET_KEY', 'YOOKASSA_SHOP_ID'],
  ['YOOKASSA_API_URL', 'YOOKASSA_SHOP_ID'],
  ['YOOKASSA_WEBHOOK_IPS', 'YOOKASSA_SHOP_ID'],
  ['CRYPTO_PAY_API_URL', 'CRYPTO_PAY_TOKEN'],
  ['TELEGRAM_BOT_TOKEN', 'TELEGRAM_WEBHOOK_SECRET'],
  ['TELEGRAM_WEBHOOK_SECRET', 'TELEGRAM_BOT_TOKEN'],
  ['TELEGRAM_API_URL', 'TELEGRAM_BOT_TOKEN'],
  ['WG_EASY_PASSWORD', 'WG_EASY_URL'],
  ['WG_EASY_USERNAME', 'WG_EASY_URL'],
  ['WG_API_KEY', 'WG_EASY_URL'],
  ['WG_HOST_SSH_KEY', 'WG_HOST_SSH'],
  ['WG_HOST_SSH_PASSPHRASE', 'WG_HOST_SSH'],
  ['WG_HOST_FINGERPRINT', 'WG_HOST_SSH'],
  ['WG_HOST_PRIVILEGE', 'WG_HOST_SSH'],
  // The pages of these two send the customer back somewhere, and refuse a payment without that address.
  ['STRIPE_SECRET_KEY', 'PUBLIC_URL'],
  ['YOOKASSA_SHOP_ID', 'PUBLIC_URL'],
];

/** Reports what is missing, once, by its own name. */
function checkProviders(values: Partial<Values>, unreadable: ReadonlySet<VariableName>, report: Report): void {
  const missing = new Map<VariableName, VariableName>();
  for (const [name, needed] of needs) {
    const isGiven = values[name] !== undefined || unreadable.has(name);
    if (isGiven && values[needed] === undefined && !unreadable.has(needed)) missing.set(needed, name);
  }
  for (const [needed, name] of missing) report(needed, `must be set together with ${name}`, variables[needed].example);
}

type ApiUrl = Extract<VariableName, `${string}_API_URL`>;

function isApiUrl(name: string): name is ApiUrl {
  return name.endsWith('_API_URL');
}

/** Keys and tokens travel with every call. A fake or a local proxy on the same machine may do without. */
function checkProviderUrls(values: Partial<Values>, report: Report): void {
  for (const name of Object.keys(variables).filter(isApiUrl)) {
    const url = values[name];
    if (url === undefined || /^https:|^http:\/\/(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?:[:/]|$)/.test(url)) continue;
    report(name, 'must be https in production', variables[name].example);
  }
}

function checkProduction(values: Partial<Values>, report: Report): void {
  const { SECRET_KEY, PROMOTE_SECRET, METRICS_TOKEN, CONFIG_ENCRYPTION_KEY: keys } = values;
  if (SECRET_KEY !== undefined && looksWeak(SECRET_KEY)) {
    report('SECRET_KEY', `must be set to random text; this one ${NOT_RANDOM}`, variables.SECRET_KEY.example);
  }
  if (PROMOTE_SECRET !== undefined) checkPromoteSecret(PROMOTE_SECRET, SECRET_KEY, report);
  if (METRICS_TOKEN !== undefined && looksWeak(METRICS_TOKEN)) {
    report('METRICS_TOKEN', NOT_RANDOM, variables.METRICS_TOKEN.example);
  }
  if (keys?.some(({ key }) => isMonotonous(key))) {
    report('CONFIG_ENCRYPTION_KEY', 'must be random bytes', variables.CONFIG_ENCRYPTION_KEY.example);
  }
  checkWebhookSecrets(values, report);
  checkProviderUrls(values, report);
  if (values.ALLOW_SELF_SUBSCRIBE === true) {
    report('ALLOW_SELF_SUBSCRIBE', 'gives away subscriptions and is refused in production; remove it');
  }
}

function checkPromoteSecret(secret: string, secretKey: string | undefined, report: Report): void {
  const { example } = variables.PROMOTE_SECRET;
  if ([...secret].length < 32) report('PROMOTE_SECRET', 'must have at least 32 characters in production', example);
  else if (looksWeak(secret)) report('PROMOTE_SECRET', NOT_RANDOM, example);
  else if (secret === secretKey) report('PROMOTE_SECRET', 'must differ from SECRET_KEY', example);
}

function checkWebhookSecrets(values: Partial<Values>, report: Report): void {
  const weak = (secrets: readonly string[]) =>
    secrets.some((secret) => isMonotonous(Buffer.from(secret.slice('whsec_'.length), 'base64')));
  if (weak(values.PAYMENT_WEBHOOK_SECRET ?? [])) {
    report('PAYMENT_WEBHOOK_SECRET', 'must be random bytes', variables.PAYMENT_WEBHOOK_SECRET.example);
  }
  if ([...(values.PAYMENT_WEBHOOK_SECRETS?.values() ?? [])].some(weak)) {
    report('PAYMENT_WEBHOOK_SECRETS', 'must be random bytes', variables.PAYMENT_WEBHOOK_SECRETS.example);
  }
}

/** 24 random bytes hold fewer than 8 different ones about never. */
function isMonotonous(bytes: Uint8Array): boolean {
  return new Set(bytes).size < 8;
}
