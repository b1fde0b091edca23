import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  findPayment,
  insertPayment,
  insertPeer,
  insertTariff,
  insertUser,
  type PaymentRow,
  type Store,
  type Tx,
} from '@vpn-api/db';
import { openWgEasyDriver } from '@vpn-api/wg';
import { describe, test } from 'vitest';
import { runDoctor } from '../../src/ops/doctor.ts';
import { type App, engines, startApp } from '../harness.ts';
import { freePort } from './crash-world.ts';
import { report, secondsSince } from './results.ts';
import { SCENARIO_TIMEOUT_MS, scale, seed } from './scale.ts';

/** What a wg-easy near by takes for an answer. */
const LATENCY_MS = 20;
const CONVERGES_SECONDS = 60;
const SENDERS = 20;
const PASSWORD = 'password-of-the-page';
const WG_EASY_MAIN = fileURLToPath(new URL('./wg-easy-main.ts', import.meta.url));

/** Customers pay while their host does not answer, and it comes back. */
describe.each(engines)('a wg-easy that is down, on %s', { timeout: SCENARIO_TIMEOUT_MS }, (engine) => {
  test.each([14, 15] as const)(
    'loses no payment, and has everybody a minute after its return: v%i',
    async (version) => {
      const start = performance.now();
      await using wgEasy = new WgEasyProcess(version, await freePort());
      const env = { WG_EASY_URL: wgEasy.url, WG_EASY_PASSWORD: PASSWORD, WG_POOL_V4: '10.8.0.0/16' };
      await using app = await startApp({ engine, env, clock: 'system' });
      const payments = await app.store.transaction((tx) => insertOrders(app, tx, scale.hostDownUsers));
      const refused = await payAll(app, payments);
      const violations = refused.map((status) => `a payment was answered with ${status}`);
      await wgEasy.comeUp();
      const isBack = performance.now();
      const open = await untilConverged(app);
      if (open > 0) violations.push(`${open} peers are not on the host after ${CONVERGES_SECONDS} s`);
      violations.push(...(await unpaid(app, payments)));
      const names = await wgEasy.names();
      const ours = names.filter((name) => name !== 'by hand');
      const twins = ours.length - new Set(ours).size;
      if (ours.length !== payments.length || twins > 0) violations.push(`${ours.length} clients, ${twins} twins`);
      if (names.length - ours.length !== 1) violations.push('a client of somebody else is gone');
      const findings = await runDoctor(app.store, { now: new Date().toISOString() });
      violations.push(...findings.map(({ invariant, message }) => `${invariant}: ${message}`));
      report({
        id: 'R6',
        title: `wg-easy v${version} down while everybody pays`,
        engine,
        seed,
        counts: { customers: payments.length, 'seconds to converge': secondsSince(isBack) },
        violations,
        seconds: secondsSince(start),
      });
    },
  );
});

class WgEasyProcess implements AsyncDisposable {
  readonly url: string;
  readonly #env: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;

  constructor(version: number, port: number) {
    this.url = `http://127.0.0.1:${port}`;
    this.#env = { VERSION: String(version), PORT: String(port), LATENCY_MS: String(LATENCY_MS), PASSWORD };
  }

  async comeUp(): Promise<void> {
    const args = ['--conditions=@vpn-api/source', WG_EASY_MAIN];
    this.#child = spawn(process.execPath, args, { env: this.#env, stdio: ['ignore', 'pipe', 'inherit'] });
    await once(this.#child.stdout as Readable, 'data');
  }

  async names(): Promise<(string | undefined)[]> {
    const allowPrivate = ['127.0.0.0/8'];
    await using driver = openWgEasyDriver({ url: this.url, password: PASSWORD, allowPrivate });
    return (await driver.list(AbortSignal.timeout(10_000))).map(({ tag }) => tag);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child === undefined || this.#child.exitCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'close');
  }
}

async function insertOrders(app: App, tx: Tx, count: number): Promise<PaymentRow[]> {
  const created_at = app.clock.now();
  const terms = { tariff_name: 'Month', duration_days: 30, device_limit: 1, traffic_limit_bytes: null, grace_days: 0 };
  const tariff = await insertTariff(tx, { name: 'Month', duration_days: 30, device_limit: 1, created_at }, []);
  const payments: PaymentRow[] = [];
  for (let n = 0; n < count; n += 1) {
    const user = await insertUser(tx, { email: `${randomUUID()}@example.com`, created_at });
    await insertPeer(tx, { user_id: user.id, server_id: 1, key_origin: 'host', allowed_ips: '0.0.0.0/0', created_at });
    payments.push(
      await insertPayment(tx, {
        reference: randomUUID().replaceAll('-', ''),
        user_id: user.id,
        tariff_id: tariff.id,
        provider: 'standard',
        status: 'pending',
        list_amount_minor: 500,
        amount_minor: 500,
        currency: 'USD',
        tariff_snapshot: JSON.stringify({ ...terms, tariff_id: tariff.id }),
        created_at,
        updated_at: created_at,
      }),
    );
  }
  return payments;
}

/** Statuses of the deliveries that were not taken. */
async function payAll(app: App, payments: readonly PaymentRow[]): Promise<number[]> {
  const waiting = [...payments];
  const refused: number[] = [];
  const work = async () => {
    for (let payment = waiting.pop(); payment !== undefined; payment = waiting.pop()) {
      const { reference } = payment;
      const data = { reference, provider_payment_id: `ch_${reference}`, amount: '5.00', currency: 'USD' };
      const { status } = await app.webhook({ type: 'payment.completed', data });
      if (status !== 200) refused.push(status);
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, work));
  return refused;
}

/** Peers that are still not on the host when the time is over. Counted by the database: the server has the time to itself. */
async function untilConverged({ store }: App): Promise<number> {
  const end = performance.now() + CONVERGES_SECONDS * 1_000;
  for (;;) {
    const open = await countOpen(store);
    if (open === 0 || performance.now() > end) return open;
    await sleep(250);
  }
}

async function countOpen({ kysely }: Store): Promise<number> {
  const open = kysely
    .selectFrom('peers')
    .select((eb) => eb.fn.countAll<number>().as('total'))
    .where((eb) => eb.or([eb('public_key', 'is', null), eb('applied_state', '!=', 'present')]));
  return (await open.executeTakeFirstOrThrow()).total;
}

async function unpaid({ store }: App, payments: readonly PaymentRow[]): Promise<string[]> {
  const violations: string[] = [];
  for (const { id } of payments) {
    const status = (await findPayment(store, id))?.status;
    if (status !== 'completed') violations.push(`payment ${id} is ${status}`);
  }
  return violations;
}
