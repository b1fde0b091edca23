import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createVpnApiClient, isVpnApiError, type VpnApiClient, webhooks } from '@vpn-api/sdk';
import { toString as drawQrCode } from 'qrcode';
import { type DemoServer, openDemoServer } from './demo-server.ts';

interface Account {
  readonly email: string;
  readonly password: string;
}

/** Different on every run, so that the demo can be played again on the same database. */
const run = randomBytes(3).toString('hex');
let steps = 0;

try {
  await using server = await openDemoServer(process.env);
  console.log(`Playing on ${server.baseUrl}${server.own ? ', a server of our own with an empty database' : ''}`);
  await play(server);
} catch (error) {
  console.error(`\nThe demo stopped: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

async function play(server: DemoServer): Promise<void> {
  const { baseUrl } = server;
  const customer = createVpnApiClient({ baseUrl });
  await signUp(customer, newAccount('customer'));
  const admin = await openAdmin(server);

  const tariff = await admin.tariff.create.mutate({
    name: `Month ${run}`,
    duration_days: 30,
    price: '9.99',
    currency: 'USD',
  });
  step(
    'The admin sells a tariff',
    `${tariff.name}: ${tariff.price} ${tariff.currency} for ${tariff.duration_days} days`,
  );

  const payment = await customer.payment.create.mutate({ tariff_id: tariff.id, provider: 'standard' });
  step(
    'The customer opens a payment',
    `${payment.amount} ${payment.currency}, ${payment.status}, ${payment.reference}`,
  );
  const result = await sendWebhook(server, payment);
  step('The payment provider sends its signed webhook', `the server answers: ${result}`);

  const subscription = await customer.auth.subscription.query();
  step('The customer has a subscription', `${subscription?.status} until ${subscription?.ended_at}`);
  const peer = await customer.peer.createSelf.mutate({ device_name: 'phone' });
  step('The customer adds a device', `peer ${peer.id} with the address ${peer.wg_ip}`);
  await showConfig(customer);

  const status = await customer.peer.status.query({ peer_id: peer.id });
  const access = status.allowed ? 'allowed' : 'not allowed';
  step(
    'What is true on the WireGuard host',
    `${status.state}, ${access} (${status.reason}) until ${status.expires_at}`,
  );
}

function newAccount(name: string): Account {
  return { email: `${name}-${run}@example.com`, password: randomBytes(12).toString('base64url') };
}

async function signUp(api: VpnApiClient, account: Account): Promise<number> {
  const user = await api.auth.register.mutate(account);
  await api.$session.signIn(account);
  step('A user registers and signs in', `user ${user.id}, ${user.email}`);
  return user.id;
}

/** The secret promotes once in the life of a database; on a later run the admin of the first one signs in again. */
async function openAdmin(server: DemoServer): Promise<VpnApiClient> {
  const api = createVpnApiClient({ baseUrl: server.baseUrl });
  const accountPath = join(server.dataDir, 'demo-admin.json');
  if (await signInAgain(api, accountPath)) return api;
  const account = newAccount('admin');
  const userId = await signUp(api, account);
  await promote(api, userId, server.promoteSecret);
  await api.$session.signIn(account);
  if (!server.own) await writeFile(accountPath, JSON.stringify(account), { mode: 0o600 });
  step('The secret makes the second user an admin', `user ${userId}`);
  return api;
}

async function promote(api: VpnApiClient, userId: number, secret: string): Promise<void> {
  try {
    await api.auth.promote.mutate({ user_id: userId, secret });
  } catch (error) {
    if (!isVpnApiError(error)) throw error;
    throw new Error(`This database has its admin already, and the demo does not know the password (${error.message}).`);
  }
}

/** Answers false when no demo was played on this database before. */
async function signInAgain(api: VpnApiClient, accountPath: string): Promise<boolean> {
  const text = await readFile(accountPath, 'utf8').catch(() => undefined);
  if (text === undefined) return false;
  const account: Account = JSON.parse(text);
  const known = await api.$session.signIn(account).then(
    () => true,
    () => false,
  );
  if (known) step('The admin of an earlier demo signs in', account.email);
  return known;
}

/** What a payment provider, or the bot that took the money, does. */
async function sendWebhook(
  server: DemoServer,
  payment: { reference: string; amount: string; currency: string },
): Promise<string> {
  const body = JSON.stringify({
    type: 'payment.completed',
    timestamp: new Date().toISOString(),
    data: {
      reference: payment.reference,
      provider_payment_id: `demo-${payment.reference}`,
      amount: payment.amount,
      currency: payment.currency,
    },
  });
  const signature = await webhooks.sign({ secret: server.webhookSecret, body });
  const response = await fetch(`${server.baseUrl}/payments/webhook`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...signature },
    body,
  });
  return `${response.status} ${await response.text()}`;
}

async function showConfig(customer: VpnApiClient): Promise<void> {
  const { wg_quick: config } = await customer.peer.selfConfig.query({});
  step('The config for wg-quick', `\n${config.trim()}`);
  const qrCode = await drawQrCode(config, process.stdout.isTTY ? { type: 'terminal', small: true } : { type: 'utf8' });
  step('The same for the WireGuard app to scan', `\n${qrCode}`);
}

function step(title: string, detail: string): void {
  steps += 1;
  const bold = process.stdout.isTTY ? `\x1b[1m${title}\x1b[0m` : title;
  console.log(`\n${steps}. ${bold}\n   ${detail.replaceAll('\n', '\n   ')}`);
}
