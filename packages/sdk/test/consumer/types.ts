import {
  createVpnApiClient,
  type ErrorCode,
  forwardTelegramPayments,
  type isPaymentUpdate,
  isVpnApiError,
  paginate,
  telegramPayments,
  type VpnApiClient,
  type VpnApiErrorCode,
  type VpnApiInputs,
  type VpnApiOutputs,
} from '@vpn-api/sdk';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function check<T extends true>(): T;

type IsAny<T> = 0 extends 1 & T ? true : false;
type IsUnknown<T> = IsAny<T> extends true ? false : unknown extends T ? true : false;

/** Dotted paths of everything below `T` that has no type; `never` when all is typed. */
type Untyped<T, P extends string = ''> =
  IsAny<T> extends true
    ? `${P}: any`
    : IsUnknown<T> extends true
      ? `${P}: unknown`
      : T extends readonly (infer U)[]
        ? Untyped<U, `${P}[]`>
        : T extends object
          ? { [K in keyof T & string]: Untyped<T[K], `${P}.${K}`> }[keyof T & string]
          : never;

type Shown<T> = { [K in keyof T]: T[K] };

check<Equal<Untyped<VpnApiInputs>, never>>();
// What was done is told in each act's own words.
check<Equal<Untyped<VpnApiOutputs>, `.${'audit.list[].details' | 'event.list[].data'}.${string}: unknown`>>();

check<Equal<IsAny<VpnApiClient>, false>>();

interface Tariff {
  id: number;
  name: string;
  description: string | null;
  duration_days: number | null;
  price: string;
  currency: string;
  prices: { currency: string; amount: string; providers?: string[] }[];
  device_limit: number;
  traffic_limit_bytes: number | null;
  trial: boolean;
  grace_days: number;
  archived: boolean;
  created_at: string;
}
check<Equal<Shown<VpnApiOutputs['tariff']['list'][number]>, Shown<Tariff>>>();

interface Tokens {
  access_token: string;
  token_type: 'bearer';
  expires_in: number;
  refresh_token: string;
  refresh_expires_in: number;
}
check<Equal<Shown<VpnApiOutputs['auth']['login']>, Shown<Tokens>>>();
check<Equal<Shown<VpnApiInputs['auth']['refresh']>, { refresh_token: string }>>();

check<Equal<VpnApiInputs['auth']['login'], { email: string; password: string }>>();
check<Equal<VpnApiOutputs['payment']['create']['status'], VpnApiOutputs['payment']['get']['status']>>();
check<Equal<IsAny<VpnApiOutputs['peer']['createSelf']['wg_private_key']>, false>>();

check<Equal<IsAny<ErrorCode>, false>>();
check<Equal<string extends VpnApiErrorCode ? true : false, false>>();
check<Equal<'no_active_subscription' extends ErrorCode ? true : false, true>>();

export async function uses(baseUrl: string): Promise<void> {
  const api = createVpnApiClient({ baseUrl, apiKey: 'vpk_x', retries: { retries: 1 } });
  const tariffs = await api.tariff.list.query({ limit: 5 });
  check<Equal<typeof tariffs, VpnApiOutputs['tariff']['list']>>();
  for await (const tariff of paginate(api.tariff.list.query, { limit: 5 })) {
    check<Equal<typeof tariff, VpnApiOutputs['tariff']['list'][number]>>();
  }
  for await (const payment of paginate(api.payment.list.query, { status: 'needs_review' })) {
    check<Equal<typeof payment, VpnApiOutputs['payment']['list'][number]>>();
  }
  const user = await api.user.ensure.mutate({ telegram_id: 123456789 });
  const input = { tariff_id: 1, provider: 'telegram_stars', user_id: user.id };
  await api.payment.create.mutate(input, { context: { idempotencyKey: 'order-1' } });
  // @ts-expect-error a list takes a number
  await api.tariff.list.query({ limit: '5' });
  // @ts-expect-error a query has no mutate
  await api.tariff.list.mutate({});
  // @ts-expect-error no such procedure
  await api.tariff.steal.mutate({});
  // @ts-expect-error payments have no list of keys without input
  paginate(api.tariff.get.query, { limit: 5 });
  const tokens = await api.$session.tokens();
  check<Equal<typeof tokens, import('@vpn-api/sdk').SessionTokens | undefined>>();
  await api.$session.adopt({} as VpnApiOutputs['auth']['login']);
  const caught: unknown = tokens;
  if (isVpnApiError(caught)) {
    check<Equal<typeof caught.code, VpnApiErrorCode>>();
    check<Equal<typeof caught.status, number | undefined>>();
  }
}

/** The parts of grammY and Telegraf that meet the middleware, as they declare them. */
interface Update {
  update_id: number;
  message?: { successful_payment?: { currency: string } };
}
declare class GrammyContext {
  readonly update: Update;
}
declare class TelegrafContext<U extends Update> {
  readonly update: U;
}
type GrammyMiddleware<C> = (ctx: C, next: () => Promise<void>) => unknown;
type TelegrafMiddleware<C> = (ctx: C, next: () => Promise<void>) => Promise<unknown>;

export async function bot(update: Update): Promise<void> {
  const options = { baseUrl: 'https://vpn.example.com', secret: 'x' };
  const middleware = telegramPayments(options);
  middleware satisfies GrammyMiddleware<GrammyContext>;
  middleware satisfies TelegrafMiddleware<TelegrafContext<Update>>;
  const isTaken = await forwardTelegramPayments(options)(update);
  check<Equal<typeof isTaken, boolean>>();
  check<Equal<ReturnType<typeof isPaymentUpdate>, boolean>>();
  // @ts-expect-error the server takes nothing without the secret
  telegramPayments({ baseUrl: 'https://vpn.example.com' });
}
