import { type App, type AppOptions, PASSWORD, startApp } from '../harness.ts';

/** Receivers of the tests stand on loopback. */
export const LOOPBACK = { OUTBOUND_ALLOW: '127.0.0.0/8' };

export interface Endpoint {
  readonly id: number;
  readonly secret: string;
  readonly disabled_at: string | null;
  readonly disabled_reason: string | null;
}

export interface Delivery {
  readonly id: number;
  readonly event_id: number;
  readonly status: string;
  readonly attempts: number;
  readonly last_status: number | null;
  readonly last_error: string | null;
  readonly next_attempt_at: string | null;
}

export function startOutboxApp(options: AppOptions): Promise<App> {
  return startApp({ ...options, env: { ...LOOPBACK, ...options.env } });
}

/** Signed in anew: these tests live through days, and a session's token through an hour. */
export async function adminToken(app: App): Promise<string> {
  const { email } = await app.admin();
  const { body } = await app.rest<{ access_token: string }>('POST', '/auth/login', {
    body: { email, password: PASSWORD },
  });
  return body.access_token;
}

export async function addEndpoint(app: App, body: { url: string; types?: readonly string[] }): Promise<Endpoint> {
  const token = await adminToken(app);
  const made = await app.rest<Endpoint>('POST', '/webhook_endpoints', { token, body });
  if (made.status !== 200) throw new Error(`${made.status} ${made.text}`);
  return made.body;
}

export async function deliveries(app: App, { id }: Pick<Endpoint, 'id'>, query = ''): Promise<Delivery[]> {
  const token = await adminToken(app);
  return (await app.rest<Delivery[]>('GET', `/webhook_endpoints/${id}/deliveries?${query}`, { token })).body;
}

/** Makes a customer, which is an event. */
export async function makeNews(app: App, count = 1): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const token = await adminToken(app);
    const email = `news-${Math.random().toString(36).slice(2)}@example.com`;
    const made = await app.rest('POST', '/users/ensure', { token, body: { email } });
    if (made.status !== 200) throw new Error(`${made.status} ${made.text}`);
  }
}
