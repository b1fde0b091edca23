import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { pay, sellTariff } from '../e2e/shop.ts';
import { type Answer, type App, engines, PASSWORD, startApp } from '../harness.ts';
import { any, bool, int, maybe, read, readList, str } from './dart.ts';

/** The app sends this with every request, whether there is a body or not. */
const contentType = { 'content-type': 'application/json' };

/** Field readers of the app's models, as in its `fromJson` factories. */
const user = { id: int, email: str, status: str, is_admin: maybe(bool), created_at: str };
const tariff = {
  id: maybe(int),
  name: maybe(str),
  description: maybe(any),
  duration_days: maybe(int),
  price: maybe(any),
};
const peer = {
  id: int,
  user_id: int,
  wg_public_key: str,
  wg_ip: str,
  allowed_ips: maybe(any),
  active: bool,
  created_at: str,
  wg_private_key: maybe(any),
};
const subscription = {
  id: maybe(int),
  user_id: maybe(int),
  tariff_id: maybe(int),
  tariff_name: maybe(str),
  started_at: maybe(str),
  ended_at: maybe(str),
  status: maybe(str),
  duration_days: maybe(int),
  days_remaining: maybe(int),
  is_lifetime: maybe(bool),
  price: maybe(any),
};
const payment = {
  id: int,
  user_id: maybe(int),
  amount: maybe(any),
  currency: maybe(str),
  status: str,
  provider: maybe(str),
  provider_payment_id: maybe(str),
  created_at: str,
};

/** The app's HTTP client. */
class Phone {
  readonly app: App;
  token: string | undefined;
  refreshToken: string | undefined;

  constructor(app: App) {
    this.app = app;
  }

  send(method: string, path: string, body?: unknown): Promise<Answer<unknown>> {
    return this.app.rest<unknown>(method, path, { token: this.token, body, headers: contentType });
  }

  async ok(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await this.send(method, path, body);
    expect(answer.status, `${method} ${path}: ${answer.text}`).toBe(200);
    return answer.body;
  }

  async refused(method: string, path: string, body?: unknown): Promise<{ status: number; detail: unknown }> {
    const { status, body: problem } = await this.send(method, path, body);
    return { status, detail: (problem as { detail: unknown }).detail };
  }

  /** Rows 2 and 1: the first screen. */
  async signUp(email: string): Promise<number> {
    const { id } = read(await this.ok('POST', '/auth/register', { email, password: PASSWORD }), user);
    await this.logIn(email);
    return id;
  }

  async logIn(email: string): Promise<void> {
    const answer = await this.ok('POST', '/auth/login', { email, password: PASSWORD });
    const tokens = read(answer, { access_token: any, refresh_token: maybe(str) });
    this.token = String(tokens.access_token);
    this.refreshToken = tokens.refresh_token;
  }
}

async function unbox(engine: (typeof engines)[number], env: Record<string, string> = {}) {
  await using stack = new AsyncDisposableStack();
  // One named sender, as most operators have: the app does not say whom it pays through.
  const app = stack.use(await startApp({ engine, env: { PAYMENT_WEBHOOK_SECRETS: '', ...env } }));
  const admin = await app.admin();
  const { id: tariffId } = await sellTariff(app, admin.token, 2);
  const phone = new Phone(app);
  const userId = await phone.signUp('phone@example.com');
  const resources = stack.move();
  return { app, admin, tariffId, phone, userId, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

/** The wg_public_key that the app sends: random bytes that belong to no private key. */
function madeUpKey(): string {
  const bytes = randomBytes(32);
  // Not above the field's prime: such bytes are no second spelling of a key.
  bytes.writeUInt8(bytes.readUInt8(31) & 0x7f, 31);
  return bytes.toString('base64');
}

/** What `wg pubkey` answers, computed without our own code. */
function publicKeyOf(privateKey: string): string {
  const pkcs8 = Buffer.concat([
    Buffer.from('302e020100300506032b656e04220420', 'hex'),
    Buffer.from(privateKey, 'base64'),
  ]);
  const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64');
}

function lineOf(config: string, key: string): string | undefined {
  return new RegExp(`^${key} = (.*)$`, 'm').exec(config)?.[1];
}

describe.each(engines)('the mobile app on %s', (engine) => {
  test('rows 1–3: signs up, signs in and reads its user', async () => {
    await using box = await unbox(engine);
    const { phone } = box;
    expect(read(await phone.ok('GET', '/auth/me'), user)).toMatchObject({
      email: 'phone@example.com',
      status: 'active',
      is_admin: false,
    });
    // The app shows the session as expired by the `exp` in the token itself.
    const [, claims = ''] = phone.token?.split('.') ?? [];
    expect(JSON.parse(Buffer.from(claims, 'base64url').toString()).exp).toBeTypeOf('number');
  });

  test('row 4: lists tariffs', async () => {
    await using box = await unbox(engine);
    const [first] = readList(await box.phone.ok('GET', '/tariffs/?skip=0&limit=10'), tariff);
    expect(first).toMatchObject({ id: box.tariffId, duration_days: 30, price: '5.00' });
  });

  test('rows 5–7: adds a device, lists devices and reads one', async () => {
    await using box = await unbox(engine);
    const { app, phone, userId, tariffId } = box;
    expect(await phone.refused('POST', '/vpn_peers/self', { wg_public_key: madeUpKey() })).toEqual({
      status: 403,
      detail: 'no_active_subscription',
    });
    await pay(app, phone.token ?? '', { id: tariffId });
    const body = { device_name: 'phone', wg_public_key: madeUpKey(), wg_ip: '10.8.0.99', allowed_ips: '0.0.0.0/0' };
    const created = read(await phone.ok('POST', '/vpn_peers/self', body), peer);
    expect(created).toMatchObject({ user_id: userId, active: true, wg_public_key: body.wg_public_key });
    // The address is the server's to give.
    expect(created.wg_ip).not.toContain('10.8.0.99');
    expect(readList(await phone.ok('GET', '/vpn_peers/?skip=0&limit=10'), peer)).toHaveLength(1);
    expect(readList(await phone.ok('GET', `/vpn_peers/?skip=0&limit=10&user_id=${userId}`), peer)).toHaveLength(1);
    expect(read(await phone.ok('GET', `/vpn_peers/${created.id}/`), peer)).toMatchObject({ id: created.id });
    expect(await phone.ok('DELETE', `/vpn_peers/${created.id}`)).toEqual({ msg: 'deleted' });
    expect(readList(await phone.ok('GET', '/vpn_peers/?skip=0&limit=10'), peer)).toEqual([]);
  });

  test('row 6: with WG_IGNORE_CLIENT_KEYS its made-up key is replaced by one that works', async () => {
    await using box = await unbox(engine, { WG_IGNORE_CLIENT_KEYS: '1' });
    const { app, phone, tariffId } = box;
    await pay(app, phone.token ?? '', { id: tariffId });
    const body = { wg_public_key: madeUpKey() };
    const created = read(await phone.ok('POST', '/vpn_peers/self', body), peer);
    expect(created.wg_public_key).not.toBe(body.wg_public_key);
    const { wg_quick } = read(await phone.ok('GET', '/vpn_peers/self/config'), { wg_quick: str });
    const privateKey = lineOf(wg_quick, 'PrivateKey') ?? '';
    expect(publicKeyOf(privateKey)).toBe(created.wg_public_key);

    // Its answer was lost, so the app asks again: the same device, not a second one.
    const repeated = read(await phone.ok('POST', '/vpn_peers/self', body), peer);
    expect(repeated).toMatchObject({ id: created.id, wg_public_key: created.wg_public_key });
    expect(read(await phone.ok('GET', '/vpn_peers/self/config'), { wg_quick: str }).wg_quick).toBe(wg_quick);
  });

  test('row 8: fetches its config, by GET and by the POST it falls back to', async () => {
    await using box = await unbox(engine);
    const { app, phone, tariffId } = box;
    const missing = { status: 403, detail: 'no_active_subscription' };
    expect(await phone.refused('GET', '/vpn_peers/self/config')).toEqual(missing);
    expect(await phone.refused('POST', '/vpn_peers/self/config', {})).toEqual(missing);
    await pay(app, phone.token ?? '', { id: tariffId });
    expect((await phone.refused('GET', '/vpn_peers/self/config')).status).toBe(404);
    await phone.ok('POST', '/vpn_peers/self', {});
    const { wg_quick } = read(await phone.ok('GET', '/vpn_peers/self/config'), { wg_quick: str });
    expect(wg_quick).toContain('[Interface]');
    expect(wg_quick).toContain('[Peer]');
    expect(await phone.ok('POST', '/vpn_peers/self/config', {})).toEqual({ wg_quick });
  });

  test('row 9: reads its subscription, null before it pays', async () => {
    await using box = await unbox(engine);
    const { app, phone, tariffId, userId } = box;
    expect(await phone.ok('GET', '/auth/me/subscription')).toBeNull();
    await pay(app, phone.token ?? '', { id: tariffId });
    expect(read(await phone.ok('GET', '/auth/me/subscription'), subscription)).toMatchObject({
      user_id: userId,
      tariff_id: tariffId,
      status: 'active',
      duration_days: 30,
      days_remaining: 30,
      is_lifetime: false,
      price: '5.00',
    });
  });

  test('rows 10, 12 and 13: opens a payment by its price, reads it and lists it', async () => {
    await using box = await unbox(engine);
    const { phone, userId } = box;
    const body = { amount: '5.00', currency: 'USD', status: 'completed' };
    const created = read(await phone.ok('POST', '/payments/', body), payment);
    expect(created).toMatchObject({ user_id: userId, amount: '5.00', currency: 'USD', provider: 'standard' });
    // What is paid is the provider's to say.
    expect(created.status).toBe('pending');
    expect(read(await phone.ok('GET', `/payments/${created.id}/`), payment)).toEqual(created);
    expect(readList(await phone.ok('GET', '/payments/?skip=0&limit=50'), payment)).toEqual([created]);

    const named = { ...body, provider: 'standard', provider_payment_id: 'ch-of-somebody', user_id: userId };
    expect(read(await phone.ok('POST', '/payments/', named), payment)).toEqual(created);
    expect(await phone.refused('POST', '/payments/', { ...named, user_id: userId + 1 })).toEqual({
      status: 403,
      detail: 'Not allowed',
    });
    expect(await phone.refused('POST', '/payments/', { ...body, amount: '4.99' })).toMatchObject({ status: 400 });
  });

  test('row 14, a deliberate exception: its payments are not edited or deleted by their owner', async () => {
    await using box = await unbox(engine);
    const { phone } = box;
    const created = read(await phone.ok('POST', '/payments/', { amount: '5.00', currency: 'USD' }), payment);
    const no = { status: 403, detail: 'Not allowed' };
    expect(await phone.refused('PUT', `/payments/${created.id}/`, { status: 'completed' })).toEqual(no);
    expect(await phone.refused('DELETE', `/payments/${created.id}/`)).toEqual(no);
    expect(read(await phone.ok('GET', `/payments/${created.id}/`), payment)).toEqual(created);
  });

  test('row 15, a deliberate exception: subscribing without paying is for demos only', async () => {
    await using box = await unbox(engine);
    const { phone, tariffId } = box;
    expect(await phone.refused('POST', '/auth/subscribe', { tariff_id: tariffId })).toMatchObject({ status: 403 });
    expect(await phone.ok('GET', '/auth/me/subscription')).toBeNull();

    await using demo = await unbox(engine, { ALLOW_SELF_SUBSCRIBE: '1' });
    const answer = await demo.phone.ok('POST', '/auth/subscribe', { tariff_id: demo.tariffId });
    expect(
      read(answer, { msg: str, user_tariff_id: int, tariff_id: int, started_at: str, ended_at: str }),
    ).toMatchObject({ msg: 'subscription activated', tariff_id: demo.tariffId });
  });

  test('row 16: an expired token is exchanged for a new one', async () => {
    await using box = await unbox(engine);
    const { app, phone } = box;
    app.clock.advance(61 * 60);
    expect((await phone.refused('GET', '/auth/me')).status).toBe(401);
    phone.token = undefined;
    const answer = await phone.ok('POST', '/auth/refresh', { refresh_token: phone.refreshToken });
    phone.token = String(read(answer, { access_token: any, refresh_token: maybe(str) }).access_token);
    expect(read(await phone.ok('GET', '/auth/me'), user).email).toBe('phone@example.com');
  });

  test('asks again after a network error, POST included, without making anything twice', async () => {
    await using box = await unbox(engine);
    const { app, phone, tariffId } = box;
    const twice = async (path: string, body: unknown) => [
      read(await phone.ok('POST', path, body), { id: int }).id,
      read(await phone.ok('POST', path, body), { id: int }).id,
    ];
    const [firstPayment, secondPayment] = await twice('/payments/', { amount: '5.00', currency: 'USD' });
    expect(secondPayment).toBe(firstPayment);
    await pay(app, phone.token ?? '', { id: tariffId });
    const [firstPeer, secondPeer] = await twice('/vpn_peers/self', { wg_public_key: madeUpKey() });
    expect(secondPeer).toBe(firstPeer);
    expect(readList(await phone.ok('GET', '/vpn_peers/?skip=0&limit=10'), peer)).toHaveLength(1);
    // The account was made, though its answer was lost: the app tells the user to sign in.
    const again = { email: 'phone@example.com', password: PASSWORD };
    expect(await phone.refused('POST', '/auth/register', again)).toEqual({
      status: 409,
      detail: 'Email already registered',
    });
  });

  test('knows what to show from the texts it matches', async () => {
    await using box = await unbox(engine);
    const { app, phone, admin, tariffId, userId } = box;
    const login = { email: 'phone@example.com', password: 'Wrong-password-1' };
    expect(await phone.refused('POST', '/auth/login', login)).toEqual({ status: 401, detail: 'Invalid credentials' });
    const short = await phone.refused('POST', '/auth/register', { email: 'new@example.com', password: 'short' });
    expect(short).toEqual({ status: 400, detail: 'Password must be at least 8 characters' });
    const misspelt = await phone.refused('POST', '/auth/register', { email: 'no-address', password: PASSWORD });
    expect(misspelt).toEqual({ status: 400, detail: expect.stringContaining('email') });
    expect(await phone.refused('POST', '/tariffs/', { name: 'Free', price: 0 })).toEqual({
      status: 403,
      detail: 'Admin privileges required',
    });
    expect(await phone.refused('GET', `/vpn_peers/?skip=0&limit=10&user_id=${admin.id}`)).toEqual({
      status: 403,
      detail: 'Not allowed',
    });
    expect(await phone.refused('GET', '/vpn_peers/999/')).toEqual({ status: 404, detail: 'Peer not found' });
    expect(await phone.refused('GET', '/payments/999/')).toEqual({ status: 404, detail: 'Payment not found' });
    await pay(app, phone.token ?? '', { id: tariffId });
    await app.rest('POST', `/users/${userId}/block`, { token: admin.token });
    expect(await phone.refused('GET', '/auth/me')).toEqual({ status: 403, detail: 'User not active' });
    const right = { email: 'phone@example.com', password: PASSWORD };
    expect(await phone.refused('POST', '/auth/login', right)).toEqual({ status: 401, detail: 'Invalid credentials' });
  });
});
