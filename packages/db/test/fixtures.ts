import {
  insertPayment,
  insertPeer,
  insertPeriod,
  insertServer,
  insertTariff,
  insertUser,
  type NewPayment,
  type NewPeer,
  type NewServer,
  type NewSubscriptionPeriod,
  type NewUser,
  type PaymentRow,
  type PeerRow,
  type ServerRow,
  type Store,
  type SubscriptionPeriodRow,
  type TariffWithPrices,
  type UserRow,
} from '../src/index.ts';

/** A moment of a day that all fixtures share: `at(90)` is a minute and a half into it. */
export function at(seconds: number): string {
  return new Date(Date.UTC(2026, 0, 1) + seconds * 1000).toISOString();
}

export const DAY = 86_400;

let counter = 0;
/** Different in every call, for columns that must be. */
export function unique(prefix: string): string {
  counter += 1;
  return `${prefix}${counter}`;
}

export function addUser(store: Store, user: Partial<NewUser> = {}): Promise<UserRow> {
  return insertUser(store, { email: `${unique('user')}@example.com`, created_at: at(0), ...user });
}

export function addTariff(store: Store, name = unique('tariff')): Promise<TariffWithPrices> {
  const prices = [{ currency: 'USD', amount_minor: 999, providers: null }];
  return store.transaction((tx) => insertTariff(tx, { name, duration_days: 30, created_at: at(0) }, prices));
}

export async function addPayment(store: Store, userId: number, payment: Partial<NewPayment> = {}): Promise<PaymentRow> {
  const tariffId = payment.tariff_id ?? (await addTariff(store)).id;
  return await insertPayment(store, {
    reference: unique('ref'),
    user_id: userId,
    tariff_id: tariffId,
    provider: 'standard',
    status: 'pending',
    list_amount_minor: 999,
    amount_minor: 999,
    currency: 'USD',
    tariff_snapshot: '{}',
    created_at: at(0),
    updated_at: at(0),
    ...payment,
  });
}

export function addPeriod(
  store: Store,
  userId: number,
  period: Partial<NewSubscriptionPeriod> = {},
): Promise<SubscriptionPeriodRow> {
  const row = { ...periodColumns, user_id: userId, seq: 1, ...period };
  return store.transaction((tx) => insertPeriod(tx, row));
}

export const periodColumns = {
  tariff_name: 'Month',
  price_minor: 999,
  currency: 'USD',
  duration_days: 30,
  device_limit: 1,
  grace_days: 0,
  source: 'admin',
  granted_at: at(0),
  length_seconds: 30 * DAY,
  starts_at: at(0),
  ends_at: at(30 * DAY),
  created_at: at(0),
} as const;

export function addServer(store: Store, server: Partial<NewServer> = {}): Promise<ServerRow> {
  return insertServer(store, {
    name: unique('server'),
    driver: 'none',
    keys: 'given',
    mode: 'apply',
    pool_v4: '10.8.0.0/24',
    origin: 'api',
    created_at: at(0),
    ...server,
  });
}

export function addPeer(
  store: Store,
  ids: { userId: number; serverId: number },
  peer: Partial<NewPeer> = {},
): Promise<PeerRow> {
  const row = {
    user_id: ids.userId,
    server_id: ids.serverId,
    public_key: unique('key'),
    key_origin: 'server',
    allowed_ips: '0.0.0.0/0',
    created_at: at(0),
    ...peer,
  } as const;
  return store.transaction((tx) => insertPeer(tx, row));
}
