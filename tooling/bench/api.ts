import type { Call } from './load.ts';

/** Plain REST calls for what has to be there before a measurement. */
export class Api {
  readonly #baseUrl: string;
  readonly token: string | undefined;

  constructor(baseUrl: string, token?: string) {
    this.#baseUrl = baseUrl;
    this.token = token;
  }

  as(token: string): Api {
    return new Api(this.#baseUrl, token);
  }

  async get<T>(path: string): Promise<T> {
    return (await (await this.#send({ method: 'GET', path })).json()) as T;
  }

  async post<T>(path: string, body: unknown): Promise<T> {
    return (await (await this.#send({ method: 'POST', path, body: JSON.stringify(body) })).json()) as T;
  }

  /** How many rows a list has. */
  async count(path: string): Promise<number> {
    const response = await this.#send({ method: 'GET', path: `${path}&limit=1&with_total=true` });
    await response.arrayBuffer();
    return Number(response.headers.get('x-total-count'));
  }

  async #send({ method, path, body }: Call): Promise<Response> {
    const headers = {
      'content-type': 'application/json',
      ...(this.token && { authorization: `Bearer ${this.token}` }),
    };
    const response = await fetch(this.#baseUrl + path, { method, headers, body });
    if (response.ok) return response;
    throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`);
  }
}

interface Identified {
  readonly id: number;
}

export interface Accounts {
  readonly admin: Api;
  readonly customer: Api;
  readonly adminId: number;
}

/** An admin, promoted by the secret, and a customer. */
export async function openAccounts(baseUrl: string, promoteSecret: string): Promise<Accounts> {
  const anybody = new Api(baseUrl);
  const admin = await openAccount(anybody, 'admin@example.com');
  await anybody.post(`/auth/admin/promote?user_id=${admin.id}&secret=${promoteSecret}`, {});
  const customer = await openAccount(anybody, 'customer@example.com');
  // Signed in again: a promotion may end earlier tokens.
  return { admin: anybody.as(await signIn(anybody, 'admin@example.com')), customer: customer.api, adminId: admin.id };
}

const password = 'a long password of the benchmark';

async function openAccount(anybody: Api, email: string): Promise<Identified & { api: Api }> {
  const { id } = await anybody.post<Identified>('/auth/register', { email, password });
  return { id, api: anybody.as(await signIn(anybody, email)) };
}

async function signIn(anybody: Api, email: string): Promise<string> {
  const tokens = await anybody.post<{ access_token: string }>('/auth/login', { email, password });
  return tokens.access_token;
}

/** Accounts without a password, as a bot makes them. */
export async function ensureUsers(admin: Api, count: number, prefix: string): Promise<readonly number[]> {
  const emails = Array.from({ length: count }, (_, i) => `${prefix}-${i}@example.com`);
  return inParallel(emails, async (email) => (await admin.post<Identified>('/users/ensure', { email })).id);
}

export async function createTariff(admin: Api, name: string, deviceLimit: number): Promise<number> {
  const tariff = { name, duration_days: 30, price: '9.99', currency: 'USD', device_limit: deviceLimit };
  return (await admin.post<Identified>('/tariffs', tariff)).id;
}

/** As many at a time as a busy bot. */
const CALLERS = 20;

/** Maps with `CALLERS` callers at once; the answers are in the order of the items. */
export async function inParallel<T, R>(items: readonly T[], act: (item: T) => Promise<R>): Promise<readonly R[]> {
  const answers: R[] = [];
  let next = 0;
  const work = async () => {
    for (let i = next++; i < items.length; i = next++) answers[i] = await act(items[i] as T);
  };
  await Promise.all(Array.from({ length: CALLERS }, work));
  return answers;
}
