import type { ColumnTokens } from '../dialect.ts';
import type { Migration } from './index.ts';

/** Hosts of every kind, providers that must be asked, tariff changes, trials, traffic, and events to the outside. */
export const hostsAndMoney: Migration = {
  name: '0002-hosts-and-money',
  statements: (tokens) => [...hosts(tokens), ...traffic(tokens), ...money(tokens), ...events(tokens)],
};

const hosts = (t: ColumnTokens): string[] => [
  'alter table servers add column address text -- URL of a wg-easy, or user@host:port of a host over SSH',
  'alter table servers add column username text -- of a wg-easy v15',
  'alter table servers add column credentials_sealed text -- JSON: password, API key, private key, passphrase',
  'alter table servers add column host_fingerprint text -- pinned SSH host keys, SHA256:…, separated by spaces',
  `alter table servers add column privilege text not null default 'direct' check (privilege in ('direct', 'sudo', 'kit')) -- how the wg tool is reached over SSH`,
  "alter table servers add column scripts text not null default '{}' -- JSON: the operator's own scripts on the host: apply, remove, generate",
  'alter table servers add column driver_version text -- as the host last told it',
  `alter table servers add column retired_at ${t.instant} -- given up: nothing is done on the host, what it still has is removed should it return`,
  `alter table servers add column removed_at ${t.instant} -- hidden; the row stays for the peers and keys that name it`,
  // The check on a column cannot be changed in SQLite. Every row says wireguard, so nothing is lost.
  'alter table servers drop column protocol',
  `alter table servers add column protocol text not null default 'wireguard' check (protocol in ('wireguard', 'amneziawg')) -- protocol_params holds what it needs beside the keys`,
];

const traffic = (t: ColumnTokens): string[] => [
  `alter table host_peers add column rx_bytes ${t.big} not null default 0 -- the host's own counter of this key as last read, 0 while the host does not show it; peers.rx_bytes is the sum over keys, hosts and restarts`,
  `alter table host_peers add column tx_bytes ${t.big} not null default 0`,
  'alter table peers add column endpoint_hash text -- of the address the peer was last seen at; the address itself is not kept',
  `alter table peers add column endpoint_since ${t.instant}`,
  `alter table peers add column moved_from_id integer references servers (id) -- the server it was on before its last move`,
  // Until now the peers had the counters of their present keys.
  ...(['rx_bytes', 'tx_bytes'] as const).map(
    (column) => `update host_peers set ${column} = coalesce((select peers.${column} from peers
  where peers.public_key = host_peers.public_key and peers.server_id = host_peers.server_id and peers.removed_at is null), 0)`,
  ),
  `create table peer_usage (
  peer_id integer not null references peers (id),
  day text not null, -- UTC, YYYY-MM-DD
  rx_bytes ${t.big} not null default 0,
  tx_bytes ${t.big} not null default 0,
  primary key (peer_id, day)
)`,
  'create index peer_usage_day on peer_usage (day)',
  `alter table subscription_periods add column used_bytes ${t.big} not null default 0 -- traffic of all the user's peers while this was the current period`,
];

const money = (t: ColumnTokens): string[] => [
  `alter table payments add column apply text not null default 'extend' check (apply in ('now', 'extend')) -- now: another tariff starts at once and the rest of the running one follows it`,
  'alter table payments add column checkout text -- JSON: how the customer pays, as the provider answered; null until it did',
  'alter table payments add column payer_id text -- who paid, in the words of the provider: needed for refunds of Telegram Stars',
  `alter table payments add column poll_at ${t.instant} -- when the provider is asked next; null: nothing to ask`,
  'alter table payments add column poll_attempts integer not null default 0',
  'create index payments_poll on payments (poll_at) where poll_at is not null',
  `alter table refunds add column attempts integer not null default 0`,
  `alter table refunds add column next_attempt_at ${t.instant} -- a pending refund whose outcome is unknown is asked about again`,
  'alter table refunds add column last_error text',
  'create index refunds_unsettled on refunds (next_attempt_at) where next_attempt_at is not null',
  // The check on a column cannot be changed in SQLite: the values move to a new column of the same name.
  `alter table payment_events add column effect text check (effect in ('completed', 'failed', 'refunded', 'disputed', 'dispute_won', 'dispute_lost')) -- what it means for a payment; null: nothing that can be settled`,
  'update payment_events set effect = action',
  'alter table payment_events drop column action',
  'alter table payment_events rename column effect to action',
  'alter table payment_events add column renewal integer not null default 0 check (renewal in (0, 1)) -- the provider declares a recurring charge',
  'alter table payment_events add column payer_id text',
  `alter table payment_events add column is_hint integer not null default 0 check (is_hint in (0, 1)) -- not trusted by itself: the object it names is read back from the provider`,
  `alter table subscription_periods add column moved_seconds ${t.big} not null default 0 check (moved_seconds >= 0) -- moved behind a tariff that started at once, to the row whose rest_of_id names this one`,
  'alter table subscription_periods add column rest_of_id integer references subscription_periods (id)',
  'create index subscription_periods_rest on subscription_periods (rest_of_id) where rest_of_id is not null',
  `create table trial_claims (
  id ${t.id},
  user_id integer unique references users (id),
  identity_hash text unique, -- keyed hash of the Telegram id: outlives the account
  claimed_at ${t.instant} not null
)`,
];

const events = (t: ColumnTokens): string[] => [
  `create table outbox_events (
  id ${t.id},
  position integer unique, -- place in the public order, given after the commit by one publisher at a time; null until then. Readers page by it: ids become visible out of order
  type text not null,
  user_id integer references users (id),
  dedupe_key text unique, -- for what must be told at most once; null: every row is news
  payload text not null, -- JSON as receivers get it, without secrets
  created_at ${t.instant} not null
)`,
  'create index outbox_events_unpublished on outbox_events (id) where position is null',
  'create index outbox_events_user on outbox_events (user_id) where user_id is not null',
  'create index outbox_events_created on outbox_events (created_at)',
  `create table webhook_endpoints (
  id ${t.id},
  url text not null,
  description text,
  types text, -- JSON array of event types; null: all
  secrets_sealed text not null, -- JSON array, the newest first; the older one signs too until its rotation is over
  old_secret_until ${t.instant},
  position integer not null default 0, -- events up to this one were made into deliveries
  failing_since ${t.instant}, -- the first failed attempt since it last took an event; null while it works
  disabled_at ${t.instant},
  disabled_reason text,
  removed_at ${t.instant},
  lease_owner text,
  lease_until ${t.instant},
  created_at ${t.instant} not null
)`,
  `create table webhook_deliveries (
  id ${t.id},
  endpoint_id integer not null references webhook_endpoints (id),
  event_id integer not null references outbox_events (id),
  status text not null check (status in ('pending', 'delivered', 'dead')), -- dead: given up after a day, waits for a person
  attempts integer not null default 0,
  next_attempt_at ${t.instant},
  last_status integer, -- HTTP status of the last answer
  last_error text,
  delivered_at ${t.instant},
  created_at ${t.instant} not null,
  unique (endpoint_id, event_id)
)`,
  "create index webhook_deliveries_pending on webhook_deliveries (endpoint_id, id) where status = 'pending'",
  'create index webhook_deliveries_event on webhook_deliveries (event_id)',
];
