import { webhooks } from '@vpn-api/sdk';
import { type Accounts, createTariff, ensureUsers, inParallel } from './api.ts';
import type { Call, Workload } from './load.ts';

const PAYING_USERS = 100;

export interface WorkloadOptions {
  readonly accounts: Accounts;
  readonly webhookSecret: string;
  /** How many payments are opened, each to be paid by one webhook. */
  readonly payments: number;
  /** How many slices share them. */
  readonly slices: number;
}

/** The calls that matter most, on a database with ten tariffs and a hundred paying users. */
export async function prepareWorkloads(options: WorkloadOptions): Promise<readonly Workload[]> {
  const { admin, customer } = options.accounts;
  const tariffs = await inParallel(
    Array.from({ length: 10 }, (_, i) => i),
    (i) => createTariff(admin, `Tariff ${i}`, 5),
  );
  const deliveries = await prepareDeliveries(options, tariffs[0] as number);
  const authorization = `Bearer ${customer.token}`;
  return [
    always('GET /health', { method: 'GET', path: '/health' }),
    always('GET /tariffs', { method: 'GET', path: '/tariffs' }),
    always('GET /trpc/tariff.list', { method: 'GET', path: '/trpc/tariff.list?input=%7B%7D' }),
    always('GET /auth/me', { method: 'GET', path: '/auth/me', headers: { authorization } }),
    {
      name: 'POST /payments/webhook',
      next: () => deliveries.pop(),
      limit: Math.floor(options.payments / options.slices),
    },
  ];
}

function always(name: string, call: Call): Workload {
  return { name, next: () => call };
}

interface OpenPayment {
  readonly reference: string;
  readonly amount: string;
  readonly currency: string;
}

/** Each settles another payment: a repeated one would only measure how fast duplicates are found. */
async function prepareDeliveries(options: WorkloadOptions, tariffId: number): Promise<Call[]> {
  const { admin } = options.accounts;
  const users = await ensureUsers(admin, PAYING_USERS, 'payer');
  const charges = Array.from({ length: options.payments }, (_, i) => ({
    id: `charge-${i}`,
    user: users[i % users.length],
  }));
  const deliveries = await inParallel(charges, async ({ id, user }) => {
    const order = { tariff_id: tariffId, provider: 'standard', user_id: user, provider_payment_id: id };
    const payment = await admin.post<OpenPayment>('/payments/create', order);
    return signedDelivery(options.webhookSecret, payment, id);
  });
  return [...deliveries];
}

async function signedDelivery(secret: string, payment: OpenPayment, chargeId: string): Promise<Call> {
  const { reference, amount, currency } = payment;
  const data = { reference, provider_payment_id: chargeId, amount, currency };
  const body = JSON.stringify({ type: 'payment.completed', timestamp: new Date().toISOString(), data });
  const headers = { 'content-type': 'application/json', ...(await webhooks.sign({ secret, body })) };
  return { method: 'POST', path: '/payments/webhook', headers, body };
}
