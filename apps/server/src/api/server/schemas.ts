import { z } from 'zod';
import { id, instant, name, token } from '../fields.ts';

const driver = z.enum(['wg-easy', 'ssh', 'local', 'none']);
const keys = z.enum(['given', 'reported']);
const mode = z.enum(['observe', 'apply']);
const privilege = z.enum(['direct', 'sudo', 'kit']);
const protocol = z.enum(['wireguard', 'amneziawg']);

const scriptPath = z
  .string()
  .max(512)
  .regex(/^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9_.-]{1,64}){1,16}$/, 'must be an absolute path of plain characters');

const scripts = z
  .strictObject({ apply: scriptPath.optional(), remove: scriptPath.optional(), generate: scriptPath.optional() })
  .describe("the operator's own scripts on a host over SSH");

/** Text of a key file: several lines, unlike everything else that is sent to us. */
const keyText = z
  .string()
  .min(1)
  .max(16_384)
  .regex(/^[\t\n\r\x20-\x7e]+$/, 'must be the text of a private key file');

const secretText = z
  .string()
  .min(1)
  .max(1_024)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'contains characters that are not allowed');

const credentials = z
  .strictObject({
    password: secretText.optional().describe('of the page of a wg-easy'),
    api_key: secretText.optional().describe('of a wg-easy, in place of the password'),
    private_key: keyText.optional().describe('text of an SSH private key'),
    passphrase: secretText.optional().describe('of an encrypted private key'),
  })
  .describe('kept sealed and never answered; an update replaces all of them');

const fingerprint = z
  .string()
  .max(500)
  .regex(/^SHA256:[A-Za-z0-9+/]{43}(?: SHA256:[A-Za-z0-9+/]{43}){0,7}$/, 'must be SHA256:… as ssh-keygen -lf prints it')
  .describe(
    'host keys to accept, separated by spaces; without one the host is refused, and `test` tells what it shows',
  );

const interfaceName = z
  .string()
  .regex(/^(?!(?:all|interfaces)$)[A-Za-z][A-Za-z0-9_.-]{0,14}$/, 'must be the name of a network interface');

const params = z
  .record(z.string().max(16), z.union([z.string().max(4_096), z.int()]))
  .describe('what the protocol needs in the [Interface] of clients, by config key: { "Jc": 4, "H1": 5 }');

const MAX_PEERS = 10_000_000;

/** What a person may say about a server, apart from its name, its driver and its pool, which a new one must have. */
export const optionalSettings = {
  region: name(64).nullish(),
  keys: keys.optional().describe('who makes the keys: given by us, or reported by the host'),
  address: token(300).nullish().describe('URL of a wg-easy, or user@host[:port] of a host over SSH'),
  username: name(64).nullish().describe('of a wg-easy v15'),
  credentials: credentials.optional(),
  host_fingerprint: fingerprint.nullish(),
  privilege: privilege.optional().describe('how the wg tool is reached over SSH'),
  scripts: scripts.optional(),
  interface: interfaceName.optional(),
  endpoint: token(260).nullish().describe('host:port that clients connect to; null: asked from the host'),
  public_key: token(64).nullish().describe('of the host; null: asked from it'),
  pool_v6: token(64).nullish(),
  dns: z.string().max(512).nullish().describe('IP addresses, separated by commas'),
  mtu: z.int().min(576).max(65_535).optional(),
  client_allowed_ips: z.string().min(1).max(2_000).optional().describe('what clients route here'),
  keepalive: z.int().min(0).max(65_535).optional().describe('seconds; 0: none'),
  protocol: protocol.optional(),
  protocol_params: params.optional(),
  capacity: z.int().min(0).max(MAX_PEERS).nullish().describe('peers at most; null: as many as the pool has addresses'),
  weight: z.int().min(0).max(1_000_000).optional().describe('share of new peers; 0: only when no other has room'),
} as const;

export const serverName = name(64);
export const serverDriver = driver;
export const pool = token(64);

/** `Server` on the wire. Credentials are never part of it. */
export const serverSchema = z.object({
  id,
  name: z.string(),
  region: z.string().nullable(),
  driver,
  driver_version: z.string().nullable(),
  keys,
  mode,
  origin: z.enum(['env', 'api']),
  address: z.string().nullable(),
  username: z.string().nullable(),
  has_credentials: z.boolean(),
  host_fingerprint: z.string().nullable(),
  privilege,
  scripts: z.object({ apply: z.string().optional(), remove: z.string().optional(), generate: z.string().optional() }),
  interface: z.string(),
  endpoint: z.string().nullable(),
  public_key: z.string().nullable(),
  pool_v4: z.string(),
  pool_v6: z.string().nullable(),
  dns: z.string().nullable(),
  mtu: z.int(),
  client_allowed_ips: z.string(),
  keepalive: z.int(),
  protocol,
  protocol_params: z.record(z.string(), z.union([z.string(), z.int()])),
  capacity: z.int().nullable(),
  weight: z.int(),
  draining: z.boolean(),
  retired_at: instant.nullable(),
  peers: z.int(),
  healthy: z.boolean(),
  attempts: z.int(),
  last_seen_at: instant.nullable(),
  last_error: z.string().nullable(),
  brake_reason: z.string().nullable(),
  pending_changes: z.int(),
  oldest_pending_seconds: z.int().nullable(),
  created_at: instant,
});

const plannedChangeSchema = z.object({
  action: z.enum(['add', 'change', 'suspend', 'remove']),
  public_key: z.string().nullable(),
  addresses: z.array(z.string()),
  tag: z.string().nullable(),
  peer_id: id.nullable(),
  user_id: id.nullable(),
  reason: z.string().nullable(),
});

/** What a pass would do to the host, as data: keys are public ones. */
export const planSchema = z.object({
  server_id: id,
  mode,
  counts: z.object({ add: z.int(), change: z.int(), suspend: z.int(), remove: z.int() }),
  /** In the order in which they would be made; the first thousand. */
  changes: z.array(plannedChangeSchema),
  changes_left_out: z.int(),
  unchanged: z.int(),
  /** Peers on the host that are not ours: never touched. */
  foreign: z.int(),
  conflicts: z.array(
    z.object({
      kind: z.enum(['key_conflict', 'address_conflict']),
      peer_id: id.nullable(),
      public_key: z.string().nullable(),
      address: z.string().nullable(),
      held_by: z.string().nullable(),
    }),
  ),
  /** Peers that cannot be wished for: without a key or an address. */
  unready_peer_ids: z.array(id),
  /** Set when the plan takes many peers off for no scheduled reason: `apply` needs `accept_removals` of `removals`. */
  brake: z.object({ removals: z.int(), present: z.int() }).nullable(),
});

export const checksSchema = z.object({
  server_id: id,
  ok: z.boolean(),
  checks: z.array(
    z.object({
      name: z.enum(['reachable', 'host_key', 'credentials', 'interface', 'list', 'clock', 'client_config']),
      ok: z.boolean().nullable(),
      message: z.string(),
    }),
  ),
});
