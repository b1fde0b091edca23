-- Generated from a freshly migrated database by "npm run generate". Not to be edited, and not a migration.

CREATE TABLE api_keys (
  id integer not null primary key autoincrement,
  name text not null,
  key_hash text not null unique,
  hint text not null, -- the first characters of the key, to recognise it by
  scopes text not null, -- JSON array of scope names
  created_by integer references users (id),
  created_at text not null,
  expires_at text,
  last_used_at text, -- to the minute: not every call writes
  revoked_at text
);

CREATE INDEX api_keys_creator on api_keys (created_by);

CREATE TABLE audit_log (
  id integer not null primary key autoincrement,
  at text not null,
  actor text not null,
  action text not null,
  target text, -- kind and id of the row
  ip text,
  request_id text,
  details text not null -- JSON, never secrets
);

CREATE INDEX audit_log_actor on audit_log (actor);

CREATE INDEX audit_log_target on audit_log (target);

CREATE TABLE foreign_peers (
  server_id integer not null references servers (id),
  public_key text not null, -- a peer on the host that is not ours: never touched, its addresses never given out
  allowed_ips text not null,
  first_seen_at text not null,
  last_seen_at text not null,
  primary key (server_id, public_key)
);

CREATE TABLE host_peers (
  id integer not null primary key autoincrement,
  server_id integer not null references servers (id),
  public_key text not null, -- every key we ever tried to put on the host, written before the attempt: this is what "ours" means
  peer_id integer not null references peers (id),
  address_index integer check (address_index > 0), -- null: the host chose an address outside our pools
  created_at text not null,
  retired_at text, -- must go from the host
  gone_at text, rx_bytes integer not null default 0, tx_bytes integer not null default 0, -- the host confirmed; the address rests from here. The row stays: a key that an old backup of the host brings back is still ours
  unique (server_id, public_key)
);

CREATE INDEX host_peers_address on host_peers (server_id, address_index, gone_at);

CREATE INDEX host_peers_key on host_peers (public_key);

CREATE INDEX host_peers_peer on host_peers (peer_id);

CREATE TABLE idempotency_keys (
  id integer not null primary key autoincrement,
  actor text not null, -- kind and id of the caller
  procedure text not null,
  key text not null,
  request_hash text not null, -- the same key with another body is refused
  lease_until text not null, -- a call still running after this has died
  answer text, -- sealed; null while the call runs
  created_at text not null,
  expires_at text not null,
  unique (actor, procedure, key)
);

CREATE INDEX idempotency_keys_expiry on idempotency_keys (expires_at);

CREATE TABLE outbox_events (
  id integer not null primary key autoincrement,
  position integer unique, -- place in the public order, given after the commit by one publisher at a time; null until then. Readers page by it: ids become visible out of order
  type text not null,
  user_id integer references users (id),
  dedupe_key text unique, -- for what must be told at most once; null: every row is news
  payload text not null, -- JSON as receivers get it, without secrets
  created_at text not null
);

CREATE INDEX outbox_events_created on outbox_events (created_at);

CREATE INDEX outbox_events_unpublished on outbox_events (id) where position is null;

CREATE INDEX outbox_events_user on outbox_events (user_id) where user_id is not null;

CREATE TABLE payment_events (
  id integer not null primary key autoincrement,
  provider text not null,
  dedupe_key text not null, -- the provider's own id of the event, or a hash of what makes it the same
  type text not null, -- the sender's own name for what happened
  reference text,
  claimed_payment_id integer, -- our payment as the sender names it; not trusted, hence no foreign key
  provider_payment_id text,
  provider_refund_id text,
  amount_minor integer,
  currency text,
  raw text not null, -- the verified body as it came
  outcome text not null check (outcome in ('settled', 'duplicate', 'ignored', 'held', 'parked')), -- parked waits for its payment, held for a person
  reason text,
  payment_id integer references payments (id), -- the payment it acted on
  received_at text not null,
  processed_at text, action text check (action in ('completed', 'failed', 'refunded', 'disputed', 'dispute_won', 'dispute_lost')), renewal integer not null default 0 check (renewal in (0, 1)), payer_id text, is_hint integer not null default 0 check (is_hint in (0, 1)),
  unique (provider, dedupe_key)
);

CREATE INDEX payment_events_charge on payment_events (provider, provider_payment_id);

CREATE INDEX payment_events_outcome on payment_events (outcome);

CREATE INDEX payment_events_parked_reference on payment_events (provider, reference) where outcome = 'parked';

CREATE INDEX payment_events_payment on payment_events (payment_id) where payment_id is not null;

CREATE TABLE payments (
  id integer not null primary key autoincrement,
  reference text not null unique, -- random; what the provider carries in its metadata and sends back
  parent_id integer references payments (id), -- the payment whose quote a further charge was made on
  user_id integer not null references users (id),
  tariff_id integer not null references tariffs (id),
  provider text not null,
  provider_payment_id text, -- the provider's charge id: what identifies money
  status text not null check (status in ('pending', 'completed', 'failed', 'refunded', 'partially_refunded', 'needs_review')),
  list_amount_minor integer not null check (list_amount_minor >= 0), -- the tariff's price when this was made
  amount_minor integer not null check (amount_minor >= 0), -- the quote: what must come in, to the last unit
  currency text not null,
  refunded_minor integer not null default 0 check (refunded_minor >= 0),
  review_reason text,
  tariff_snapshot text not null, -- JSON: the terms as quoted; later changes of the tariff do not reach them
  return_url text,
  created_at text not null,
  completed_at text,
  disputed_at text, -- an overlay on any status: access is suspended while it is set
  updated_at text not null, apply text not null default 'extend' check (apply in ('now', 'extend')), checkout text, payer_id text, poll_at text, poll_attempts integer not null default 0,
  unique (provider, provider_payment_id)
);

CREATE INDEX payments_created on payments (created_at);

CREATE INDEX payments_parent on payments (parent_id) where parent_id is not null;

CREATE INDEX payments_poll on payments (poll_at) where poll_at is not null;

CREATE INDEX payments_status on payments (status);

CREATE INDEX payments_tariff on payments (tariff_id);

CREATE INDEX payments_user on payments (user_id);

CREATE TABLE peer_usage (
  peer_id integer not null references peers (id),
  day text not null, -- UTC, YYYY-MM-DD
  rx_bytes integer not null default 0,
  tx_bytes integer not null default 0,
  primary key (peer_id, day)
);

CREATE INDEX peer_usage_day on peer_usage (day);

CREATE TABLE peers (
  id integer not null primary key autoincrement,
  user_id integer not null references users (id),
  server_id integer not null references servers (id),
  device_name text,
  public_key text, -- null until a host that makes the keys has told it
  private_key_sealed text, -- null: the client made the pair and keeps its half
  preshared_key_sealed text,
  submitted_key text, -- the public key as the client sent it: a repeat of the call finds its peer by it
  key_origin text not null check (key_origin in ('server', 'client', 'host')),
  address_index integer check (address_index > 0), -- place in the server's pools; null: the address rests no more and is free
  wg_ip text,
  wg_ip6 text,
  allowed_ips text not null, -- what the client routes, not its own address
  deactivated_at text, -- switched off by its owner
  removed_at text,
  wanted_version integer not null default 1, -- rises with every change that the host must see
  applied_version integer not null default 0, -- the version the host was last seen to have
  applied_state text not null default 'none' check (applied_state in ('none', 'present', 'suspended', 'absent')),
  applied_at text,
  pending_since text,
  last_error text,
  attempts integer not null default 0,
  next_attempt_at text,
  config_version integer not null default 1, -- rises when the client must fetch its config again
  last_handshake_at text,
  rx_bytes integer not null default 0,
  tx_bytes integer not null default 0,
  created_at text not null, endpoint_hash text, endpoint_since text, moved_from_id integer references servers (id),
  unique (server_id, address_index)
);

CREATE UNIQUE INDEX peers_live_key on peers (public_key) where removed_at is null;

CREATE INDEX peers_resting on peers (removed_at) where removed_at is not null and address_index is not null;

CREATE INDEX peers_unapplied on peers (server_id, next_attempt_at) where applied_version < wanted_version;

CREATE INDEX peers_user on peers (user_id);

CREATE TABLE refunds (
  id integer not null primary key autoincrement,
  payment_id integer not null references payments (id),
  provider text not null,
  provider_refund_id text, -- null until the provider has answered
  amount_minor integer not null check (amount_minor > 0),
  source text not null check (source in ('webhook', 'admin', 'external')), -- external: paid back outside the provider, only recorded
  status text not null check (status in ('pending', 'succeeded', 'failed')), -- pending is written before the provider is called
  reason text,
  created_at text not null, attempts integer not null default 0, next_attempt_at text, last_error text,
  unique (provider, provider_refund_id)
);

CREATE INDEX refunds_payment on refunds (payment_id);

CREATE INDEX refunds_unsettled on refunds (next_attempt_at) where next_attempt_at is not null;

CREATE TABLE servers (
  id integer not null primary key autoincrement,
  name text not null unique,
  region text,
  driver text not null check (driver in ('wg-easy', 'ssh', 'local', 'none')),
  keys text not null check (keys in ('given', 'reported')), -- reported: the host makes the key pairs and tells us
  mode text not null check (mode in ('observe', 'apply')), -- observe: changes are planned and shown, never made
  interface text not null default 'wg0',
  endpoint text,
  public_key text,
  private_key_sealed text, -- only with driver none in development, so that a demo has a config
  pool_v4 text not null, -- the first address is the server's
  pool_v6 text,
  dns text,
  mtu integer not null default 1420 check (mtu > 0),
  client_allowed_ips text not null default '0.0.0.0/0, ::/0', -- what clients route here; never what the host accepts from them
  keepalive integer not null default 25 check (keepalive >= 0),
  protocol_params text not null default '{}', -- JSON
  capacity integer check (capacity >= 0), -- null: as many as the pool has addresses
  weight integer not null default 100 check (weight >= 0), -- share of new peers
  draining_at text, -- takes no new peers
  origin text not null check (origin in ('env', 'api')), -- env: the settings at start are the truth
  lease_owner text, -- the instance that works on the host now
  lease_until text,
  lease_token integer not null default 0, -- rises with every claim: what an owner records after losing the lease is refused
  last_seen_at text,
  last_error text,
  last_error_at text,
  attempts integer not null default 0,
  next_attempt_at text,
  brake_reason text, -- a pass that would remove too many peers stopped and waits for a person
  pending_changes integer not null default 0,
  created_at text not null
, address text, username text, credentials_sealed text, host_fingerprint text, privilege text not null default 'direct' check (privilege in ('direct', 'sudo', 'kit')), scripts text not null default '{}', driver_version text, retired_at text, removed_at text, protocol text not null default 'wireguard' check (protocol in ('wireguard', 'amneziawg')));

CREATE TABLE sessions (
  id integer not null primary key autoincrement,
  family_id integer references sessions (id), -- the session that the login made; null only inside the transaction that inserts that one
  user_id integer not null references users (id),
  token_hash text not null unique, -- hash of the refresh token; the token itself is nowhere
  successor_id integer references sessions (id), -- the token that was handed out for this one
  user_agent text,
  ip text,
  created_at text not null,
  expires_at text not null,
  used_at text, -- a refresh token works once
  revoked_at text
);

CREATE INDEX sessions_expiry on sessions (expires_at);

CREATE INDEX sessions_family on sessions (family_id);

CREATE INDEX sessions_successor on sessions (successor_id) where successor_id is not null;

CREATE INDEX sessions_user on sessions (user_id);

CREATE TABLE settings (
  key text not null primary key,
  value text not null
);

CREATE TABLE subscription_periods (
  id integer not null primary key autoincrement,
  user_id integer not null references users (id),
  seq integer not null check (seq > 0), -- order of granting, counted per user; the chain is folded in this order
  tariff_id integer references tariffs (id),
  tariff_name text not null,
  price_minor integer not null check (price_minor >= 0),
  currency text not null,
  duration_days integer,
  device_limit integer not null check (device_limit > 0),
  traffic_limit_bytes integer,
  grace_days integer not null default 0 check (grace_days >= 0),
  source text not null check (source in ('payment', 'admin', 'trial', 'import')),
  payment_id integer unique references payments (id), -- one payment grants one period
  reason text,
  granted_at text not null,
  length_seconds integer check (length_seconds >= 0), -- null: lifetime
  cut_seconds integer not null default 0 check (cut_seconds >= 0), -- taken off the end by refunds; never more than was unused
  revoked_at text,
  starts_at text not null, -- derived: later of granted_at and the previous period's end
  ends_at text, -- derived: start + length - cut; null: never
  grace_ends_at text, -- derived: end + grace; null: never
  created_at text not null, used_bytes integer not null default 0, moved_seconds integer not null default 0 check (moved_seconds >= 0), rest_of_id integer references subscription_periods (id),
  unique (user_id, seq)
);

CREATE INDEX subscription_periods_end on subscription_periods (ends_at);

CREATE INDEX subscription_periods_grace on subscription_periods (grace_ends_at);

CREATE INDEX subscription_periods_rest on subscription_periods (rest_of_id) where rest_of_id is not null;

CREATE INDEX subscription_periods_start on subscription_periods (starts_at);

CREATE INDEX subscription_periods_tariff on subscription_periods (tariff_id);

CREATE TABLE tariff_prices (
  id integer not null primary key autoincrement,
  tariff_id integer not null references tariffs (id) on delete cascade,
  position integer not null check (position >= 0), -- 0 is the price shown as the tariff's own
  currency text not null,
  amount_minor integer not null check (amount_minor >= 0), -- in the currency's smallest unit
  providers text, -- JSON array of provider names; null: any
  unique (tariff_id, currency),
  unique (tariff_id, position)
);

CREATE TABLE tariffs (
  id integer not null primary key autoincrement,
  name text not null unique,
  description text,
  duration_days integer check (duration_days > 0), -- null: lifetime
  device_limit integer not null default 1 check (device_limit > 0),
  traffic_limit_bytes integer check (traffic_limit_bytes > 0), -- null: unlimited
  trial integer not null default 0 check (trial in (0, 1)), -- 1: given once per user, without payment
  grace_days integer not null default 0 check (grace_days >= 0), -- how long peers stay up after the end
  archived_at text,
  created_at text not null
);

CREATE TABLE trial_claims (
  id integer not null primary key autoincrement,
  user_id integer unique references users (id),
  identity_hash text unique, -- keyed hash of the Telegram id: outlives the account
  claimed_at text not null
);

CREATE TABLE users (
  id integer not null primary key autoincrement,
  email text unique, -- canonical form: two spellings of one address are one account; null for accounts without e-mail and for removed ones
  telegram_id integer unique,
  password_hash text, -- null: no password login
  status text not null default 'active' check (status in ('pending', 'active', 'blocked')),
  role text not null default 'user' check (role in ('user', 'admin')),
  origin text not null default 'self' check (origin in ('self', 'service')), -- service: made by a bot, so the e-mail is the operator's word
  token_version integer not null default 0, -- rises with a password change; access tokens that carry a lower one are refused
  email_verified_at text,
  blocked_at text,
  removed_at text, -- the identity is freed, payments stay
  created_at text not null
);

CREATE TABLE webhook_deliveries (
  id integer not null primary key autoincrement,
  endpoint_id integer not null references webhook_endpoints (id),
  event_id integer not null references outbox_events (id),
  status text not null check (status in ('pending', 'delivered', 'dead')), -- dead: given up after a day, waits for a person
  attempts integer not null default 0,
  next_attempt_at text,
  last_status integer, -- HTTP status of the last answer
  last_error text,
  delivered_at text,
  created_at text not null,
  unique (endpoint_id, event_id)
);

CREATE INDEX webhook_deliveries_event on webhook_deliveries (event_id);

CREATE INDEX webhook_deliveries_pending on webhook_deliveries (endpoint_id, id) where status = 'pending';

CREATE TABLE webhook_endpoints (
  id integer not null primary key autoincrement,
  url text not null,
  description text,
  types text, -- JSON array of event types; null: all
  secrets_sealed text not null, -- JSON array, the newest first; the older one signs too until its rotation is over
  old_secret_until text,
  position integer not null default 0, -- events up to this one were made into deliveries
  failing_since text, -- the first failed attempt since it last took an event; null while it works
  disabled_at text,
  disabled_reason text,
  removed_at text,
  lease_owner text,
  lease_until text,
  created_at text not null
);
