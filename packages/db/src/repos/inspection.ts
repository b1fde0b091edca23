import { type RawBuilder, sql } from 'kysely';
import type { Queryable } from '../store.ts';
import { chunks } from './page.ts';
import type { PaymentRow } from './payments.ts';

export type Invariant = 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I7' | 'I8' | 'I9' | 'I10' | 'I11';

/** The ids and columns that show what is wrong, for a person. */
export type InspectedRow = Readonly<Record<string, unknown>>;

/** Something that must never be found in a database, as one statement: what is written meanwhile cannot disturb it. */
export interface InspectionRule {
  readonly invariant: Invariant;
  /** What is wrong with each row found. */
  readonly message: string;
  readonly rows: (moments: InspectionMoments) => RawBuilder<InspectedRow>;
}

export interface InspectionMoments {
  /** What should have been done before this moment and was not is a fault. */
  readonly overdueBefore: string;
  /** The same for the deletion of sessions and refunds that take days. */
  readonly dayBefore: string;
  readonly now: string;
}

/** At most `limit` rows that break a rule. */
export async function inspect(
  q: Queryable,
  rule: InspectionRule,
  { limit, ...moments }: InspectionMoments & { readonly limit: number },
): Promise<readonly InspectedRow[]> {
  const { rows } = await sql<InspectedRow>`${rule.rows(moments)} limit ${limit}`.execute(q.kysely);
  return rows;
}

const isPaid = sql`payments.status in ('completed', 'partially_refunded')`;
const wasResolved = sql`exists (select 1 from audit_log
  where audit_log.target = 'payment:' || payments.id and audit_log.action = 'payment.resolve')`;
const settledCharge = sql`payment_events.provider = payments.provider
  and payment_events.provider_payment_id = payments.provider_payment_id
  and payment_events.action = 'completed' and payment_events.outcome = 'settled'`;
/** What the charge brought, where it is known, else what was asked. */
const received = sql`coalesce((select payment_events.amount_minor from payment_events
  where ${settledCharge} order by payment_events.id limit 1), payments.amount_minor)`;
const hasPeriod = sql`exists (select 1 from subscription_periods where subscription_periods.payment_id = payments.id)`;

/** A payment with what its rows elsewhere say about it. */
export interface PaymentFacts
  extends Pick<
    PaymentRow,
    'id' | 'user_id' | 'status' | 'amount_minor' | 'refunded_minor' | 'review_reason' | 'completed_at' | 'disputed_at'
  > {
  /** What the charge brought, where it is known, else what was asked. */
  readonly received_minor: number;
  /** The sum of the refunds that succeeded. */
  readonly refunds_minor: number;
  /** 1 when the inbox has a delivery that settled the charge. */
  readonly charged: number;
}

/** All payments of these users, in order of id. */
export async function listPaymentFacts(q: Queryable, userIds: readonly number[]): Promise<PaymentFacts[]> {
  const facts: PaymentFacts[] = [];
  for (const some of chunks(userIds)) {
    const { rows } = await sql<PaymentFacts>`select id, user_id, status, amount_minor, refunded_minor, review_reason,
        completed_at, disputed_at, ${received} as received_minor,
        cast(coalesce((select sum(refunds.amount_minor) from refunds
          where refunds.payment_id = payments.id and refunds.status = 'succeeded'), 0) as bigint) as refunds_minor,
        case when exists (select 1 from payment_events where ${settledCharge}) then 1 else 0 end as charged
      from payments where user_id in (${sql.join(some)}) order by id`.execute(q.kysely);
    facts.push(...rows);
  }
  return facts;
}

/** Ids of users that have periods, in order. */
export async function listUsersWithPeriods(
  q: Queryable,
  page: { readonly afterId: number; readonly limit: number },
): Promise<number[]> {
  const query = q.kysely.selectFrom('subscription_periods').select('user_id').distinct();
  const rows = await query.where('user_id', '>', page.afterId).orderBy('user_id').limit(page.limit).execute();
  return rows.map(({ user_id }) => user_id);
}

/** What one statement can find out. Chains, addresses and access need the domain and are looked at elsewhere. */
export const inspectionRules: readonly InspectionRule[] = [
  {
    invariant: 'I1',
    message: 'a payment kept money that no delivery in the inbox and no admin speaks of',
    rows: () => sql`select payments.id as payment_id, provider, provider_payment_id, status from payments
      where ${isPaid} and not ${wasResolved} and not exists (select 1 from payment_events where ${settledCharge})`,
  },
  {
    invariant: 'I1',
    message: 'an event was acted upon and names no payment',
    rows: () => sql`select id as event_id, provider, type, outcome from payment_events
      where outcome = 'settled' and payment_id is null and is_hint = 0`,
  },
  {
    invariant: 'I2',
    message: 'a payment kept money and granted nothing',
    rows: () =>
      sql`select payments.id as payment_id, user_id, status from payments where ${isPaid} and not ${hasPeriod}`,
  },
  {
    invariant: 'I2',
    message: 'a payment granted a period and has no money',
    rows: () => sql`select payments.id as payment_id, user_id, status from payments
      where status in ('pending', 'failed', 'needs_review') and ${hasPeriod}`,
  },
  {
    invariant: 'I2',
    message: 'a period belongs to a payment of another user',
    rows: () => sql`select periods.id as period_id, periods.user_id, payments.id as payment_id
      from subscription_periods as periods join payments on payments.id = periods.payment_id
      where payments.user_id <> periods.user_id`,
  },
  {
    invariant: 'I2',
    message: 'a period and its source disagree about a payment',
    rows: () => sql`select id as period_id, user_id, source, payment_id, rest_of_id from subscription_periods
      where (source = 'payment' and payment_id is null and rest_of_id is null)
        or (payment_id is not null and (source <> 'payment' or rest_of_id is not null))`,
  },
  {
    invariant: 'I2',
    message: 'a trial that nobody claimed',
    rows: () => sql`select id as period_id, user_id from subscription_periods
      where source = 'trial' and rest_of_id is null
        and not exists (select 1 from trial_claims where trial_claims.user_id = subscription_periods.user_id)`,
  },
  {
    invariant: 'I4',
    message: 'the refunds of a payment add up to something else than it says',
    rows: () => sql`select * from (
      select payments.id as payment_id, refunded_minor, cast(coalesce((select sum(refunds.amount_minor) from refunds
        where refunds.payment_id = payments.id and refunds.status = 'succeeded'), 0) as bigint) as refunds_minor
      from payments) as sums where refunded_minor <> refunds_minor`,
  },
  {
    invariant: 'I4',
    message: 'more went back than came',
    rows: () => sql`select payments.id as payment_id, refunded_minor, ${received} as received_minor from payments
      where refunded_minor > 0 and refunded_minor > ${received}`,
  },
  {
    invariant: 'I4',
    message: 'the status of a payment does not fit what went back',
    rows: () => sql`select payments.id as payment_id, status, refunded_minor, ${received} as received_minor from payments
      where (status in ('pending', 'completed') and refunded_minor > 0)
        or (status = 'partially_refunded' and (refunded_minor = 0 or refunded_minor >= ${received}))
        or (status = 'refunded' and refunded_minor < ${received})`,
  },
  {
    invariant: 'I4',
    message: 'other money than was asked was accepted by nobody',
    rows: () => sql`select payments.id as payment_id, payments.amount_minor, payments.currency,
        payment_events.amount_minor as received_minor, payment_events.currency as received_currency
      from payments join payment_events on ${settledCharge}
      where ${isPaid} and not ${wasResolved}
        and (payment_events.amount_minor <> payments.amount_minor or payment_events.currency <> payments.currency)`,
  },
  {
    invariant: 'I5',
    message: 'the status of a payment and the moment it was completed disagree',
    rows: () => sql`select id as payment_id, status, completed_at from payments
      where (completed_at is null and ${isPaid})
        or (completed_at is not null and status in ('pending', 'failed', 'needs_review'))`,
  },
  {
    invariant: 'I5',
    message: 'a payment whose money came went back to a state without it',
    rows: () => sql`select payments.id as payment_id, status from payments
      where (status = 'pending' or (status = 'failed' and review_reason is null))
        and exists (select 1 from payment_events
          where payment_events.payment_id = payments.id and action = 'completed' and outcome = 'settled')`,
  },
  {
    invariant: 'I6',
    message: 'two devices share an address',
    rows: () => sql`select server_id, wg_ip, count(*) as peers from peers
      where wg_ip is not null and address_index is not null group by server_id, wg_ip having count(*) > 1`,
  },
  {
    invariant: 'I6',
    message: 'two devices share a key, or one has the key of a server',
    rows: () => sql`select public_key, cast(count(*) as bigint) as holders from (
        select public_key from peers where removed_at is null and public_key is not null
        union all
        select public_key from servers where public_key is not null and removed_at is null
          and exists (select 1 from peers where peers.removed_at is null and peers.public_key = servers.public_key)
      ) as holders group by public_key having count(*) > 1`,
  },
  {
    invariant: 'I7',
    message: 'a device waits for its host, which works and says nothing about it',
    rows: ({ overdueBefore }) => sql`select peers.id as peer_id, server_id, pending_since, last_seen_at
      from peers join servers on servers.id = peers.server_id
      where peers.removed_at is null and peers.applied_version < peers.wanted_version and peers.last_error is null
        and servers.mode = 'apply' and servers.last_error is null and servers.brake_reason is null
        and peers.pending_since < ${overdueBefore} and servers.last_seen_at >= ${overdueBefore}
        and peers.deactivated_at is null and peers.public_key is not null
        and exists (select 1 from subscription_periods as periods where periods.user_id = peers.user_id
          and periods.starts_at <= ${overdueBefore} and (periods.ends_at is null or periods.ends_at > servers.last_seen_at))`,
  },
  {
    invariant: 'I9',
    message: 'a login has more than one living refresh token',
    rows: ({ now }) => sql`select coalesce(family_id, id) as session_id, count(*) as living from sessions
      where used_at is null and revoked_at is null and expires_at > ${now}
      group by coalesce(family_id, id) having count(*) > 1`,
  },
  {
    invariant: 'I9',
    message: 'a login was ended and still has a living refresh token',
    rows: ({ now }) => sql`select token.id as token_id, login.id as session_id from sessions as token
      join sessions as login on login.id = coalesce(token.family_id, token.id)
      where login.revoked_at is not null and token.used_at is null and token.revoked_at is null
        and token.expires_at > ${now}`,
  },
  {
    invariant: 'I10',
    message: 'an outgoing event was never published',
    rows: ({ overdueBefore }) => sql`select id as event_id, type, created_at from outbox_events
      where position is null and created_at < ${overdueBefore}`,
  },
  {
    invariant: 'I10',
    message: 'the next delivery to an endpoint is overdue',
    // Behind an event that waited long there are others that did: whoever holds the lease is at work on them.
    rows: ({ now, overdueBefore }) => sql`select deliveries.id as delivery_id, deliveries.endpoint_id, next_attempt_at
      from webhook_deliveries as deliveries
      join (select min(id) as id from webhook_deliveries where status = 'pending' group by endpoint_id) as heads
        on heads.id = deliveries.id
      join webhook_endpoints as endpoints on endpoints.id = deliveries.endpoint_id
      where endpoints.disabled_at is null and endpoints.removed_at is null
        and (endpoints.lease_until is null or endpoints.lease_until < ${now})
        and coalesce(next_attempt_at, deliveries.created_at) < ${overdueBefore}`,
  },
  {
    invariant: 'I10',
    message: 'a refund whose outcome is unknown is asked about no more',
    rows: ({ dayBefore }) => sql`select id as refund_id, payment_id, created_at from refunds
      where status = 'pending' and next_attempt_at is null and created_at < ${dayBefore}`,
  },
  {
    invariant: 'I11',
    message: 'a period that was given without payment has no audit row',
    // Those that everybody on a server was given are noted once.
    rows: () => sql`select id as period_id, user_id, source, created_at from subscription_periods as periods
      where source in ('admin', 'trial') and rest_of_id is null
        and not exists (select 1 from audit_log
          where audit_log.target = 'user:' || periods.user_id and audit_log.at = periods.created_at
            and action in ('subscription.grant', 'subscription.extend', 'subscription.trial'))
        and created_at not in (select at from audit_log
          where action = 'subscription.extend' and target like 'server:%')`,
  },
  {
    invariant: 'I11',
    message: 'a refund by an admin has no audit row',
    rows: () => sql`select id as refund_id, payment_id, source from refunds
      where source in ('admin', 'external') and not exists (select 1 from audit_log
        where audit_log.target = 'payment:' || refunds.payment_id and audit_log.action = 'payment.refund')`,
  },
  {
    invariant: 'I11',
    message: 'a secret was written where people read',
    rows: () => sql`select 'audit_log' as place, id from audit_log where ${holdsSecret('details')}
      union all select 'outbox_events' as place, id from outbox_events where ${holdsSecret('payload')}`,
  },
];

/** Marks by which keys and secrets of ours are known; `!` takes the meaning from the wildcard behind it. */
function holdsSecret(column: 'details' | 'payload'): RawBuilder<unknown> {
  const marks = ['whsec!_', 'vpk!_', '-----BEGIN', 'PrivateKey', 'PresharedKey'];
  const likes = marks.map((mark) => sql`${sql.ref(column)} like ${`%${mark}%`} escape '!'`);
  return sql`(${sql.join(likes, sql` or `)})`;
}
