import { randomBytes } from 'node:crypto';
import {
  insertOutboxEvent,
  insertWebhookDeliveries,
  lastPosition,
  listPublishedEvents,
  listWebhookDeliveries,
  publishOutboxEvents,
  updateUser,
} from '@vpn-api/db';
import type { Scope } from '../../src/api/actor.ts';
import { signTokens, storeSession } from '../../src/ops/issue-tokens.ts';
import { ok, sellTariff, type Tariff } from '../e2e/shop.ts';
import { type App, PASSWORD, type Person, signStandard } from '../harness.ts';

export interface Account {
  readonly id: number;
  readonly email: string;
  readonly token: string;
  readonly refreshToken: string;
  readonly sessionId: number;
}

/** Makes accounts and their rows without the cost of a password hash for each. */
export class World {
  readonly app: App;
  readonly boss: Person;
  /** On sale, with room for many devices. */
  readonly tariff: Tariff;
  readonly #passwordHash: string;
  #accounts = 0;

  static async open(app: App): Promise<World> {
    const boss = await app.admin();
    // Takes the id 1, which odd numbers hit.
    await sellTariff(app, boss.token);
    const tariff = await sellTariff(app, boss.token, 100);
    return new World(app, { boss, tariff, passwordHash: await app.services.passwords.hash(PASSWORD) });
  }

  private constructor(
    app: App,
    { boss, tariff, passwordHash }: { boss: Person; tariff: Tariff; passwordHash: string },
  ) {
    this.app = app;
    this.boss = boss;
    this.tariff = tariff;
    this.#passwordHash = passwordHash;
  }

  /** An account with the usual password, signed in. */
  async account({ isAdmin = false } = {}): Promise<Account> {
    const { store } = this.app;
    const email = `account${++this.#accounts}@example.com`;
    const { id } = await ok(this.#asBoss<{ id: number }>('POST', '/users/ensure', { email }));
    await updateUser(store, id, { password_hash: this.#passwordHash, role: isAdmin ? 'admin' : 'user' });
    return { id, email, ...(await this.signIn(id)) };
  }

  /** A new session of the account, as a login would make it. */
  async signIn(userId: number): Promise<Pick<Account, 'token' | 'refreshToken' | 'sessionId'>> {
    const { store, services } = this.app;
    const client = { ip: '203.0.113.7', userAgent: 'test' };
    const stored = await store.transaction((tx) => storeSession(services, tx, { userId, client }));
    const { accessToken, refreshToken } = await signTokens(services, { id: userId, token_version: 0 }, stored);
    return { token: accessToken, refreshToken, sessionId: stored.session.id };
  }

  async blocked(): Promise<Account> {
    const account = await this.account();
    await updateUser(this.app.store, account.id, { status: 'blocked', blocked_at: this.app.clock.now() });
    return account;
  }

  apiKey(...granted: readonly Scope[]): Promise<string> {
    return this.app.apiKey(granted);
  }

  async subscribe(userId: number): Promise<{ periodId: number }> {
    const body = { user_id: userId, tariff_id: this.tariff.id };
    const { periods } = await ok(this.#asBoss<{ periods: { id: number }[] }>('POST', '/subscriptions/grant', body));
    return { periodId: periods.at(-1)?.id ?? 0 };
  }

  /** A device of the account, which gets a subscription for it. */
  async peer(userId: number): Promise<number> {
    await this.subscribe(userId);
    return (await ok(this.#asBoss<{ id: number }>('POST', '/vpn_peers', { user_id: userId }))).id;
  }

  async payment(userId: number, provider = 'standard'): Promise<number> {
    const body = { user_id: userId, tariff_id: this.tariff.id, provider };
    return (await ok(this.#asBoss<{ id: number }>('POST', '/payments/create', body))).id;
  }

  async paidPayment(userId: number): Promise<number> {
    const id = await this.payment(userId, 'manual');
    await ok(this.#asBoss('POST', `/payments/${id}/resolve`, { action: 'accept' }));
    return id;
  }

  /** An event that waits for its payment. */
  async parkedEvent(): Promise<number> {
    const charge = randomBytes(8).toString('hex');
    await ok(
      this.app.webhook({
        type: 'payment.completed',
        data: { reference: `none-${charge}`, provider_payment_id: `ch-${charge}`, amount: '5.00', currency: 'USD' },
      }),
    );
    const events = await ok(this.#asBoss<{ id: number }[]>('GET', '/payments/events?outcome=parked'));
    return events.at(-1)?.id ?? 0;
  }

  async webhookEndpoint(): Promise<number> {
    const body = { url: 'https://hooks.example.com/vpn' };
    return (await ok(this.#asBoss<{ id: number }>('POST', '/webhook_endpoints', body))).id;
  }

  /** A server without a host. */
  async server(): Promise<number> {
    const body = { name: randomBytes(8).toString('hex'), driver: 'none', pool_v4: '10.20.0.0/24' };
    return (await ok(this.#asBoss<{ id: number }>('POST', '/servers', body))).id;
  }

  /** An outgoing event that reached nobody. */
  async delivered(): Promise<{ id: number; delivery_id: number }> {
    const { store, clock } = this.app;
    const id = await this.webhookEndpoint();
    return store.transaction(async (tx) => {
      const event = { type: 'user.created', payload: '{}', created_at: clock.now(), dedupe_key: `event ${id}` };
      await insertOutboxEvent(tx, event);
      await publishOutboxEvents(tx, 1_000);
      const [published] = await listPublishedEvents(tx, {}, { after: (await lastPosition(tx)) - 1 });
      await insertWebhookDeliveries(tx, { endpointId: id, eventIds: [published?.id ?? 0], at: clock.now() });
      const [delivery] = await listWebhookDeliveries(tx, { endpointId: id });
      return { id, delivery_id: delivery?.id ?? 0 };
    });
  }

  /** A signed delivery about nothing that we know, as input of `payment.webhook`. */
  delivery(secret?: string): { provider: string; headers: Record<string, string>; raw_body: string } {
    const raw_body = JSON.stringify({ type: 'ping', data: {} });
    const seconds = Math.floor(Date.parse(this.app.clock.now()) / 1000);
    const headers = signStandard(raw_body, { seconds, ...(secret === undefined ? {} : { secret }) });
    return { provider: 'standard', headers, raw_body };
  }

  #asBoss<T>(method: string, path: string, body?: unknown) {
    return this.app.rest<T>(method, path, { token: this.boss.token, body });
  }
}
