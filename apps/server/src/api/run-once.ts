import {
  claimIdempotencyKey,
  completeIdempotencyKey,
  findIdempotencyKey,
  type IdempotencyClaim,
  type Queryable,
  releaseIdempotencyKey,
  takeOverIdempotencyKey,
} from '@vpn-api/db';
import { sha256Hex } from '../crypto/random.ts';
import { DomainError, invalidField } from '../domain/errors.ts';
import { addSeconds } from '../domain/instant.ts';
import { type Actor, actorName } from './actor.ts';
import type { Context } from './context.ts';

/** A call that runs longer than this is taken for dead and may be run again; should it live after all, it has no effect. */
const LEASE_SECONDS = 60;
const KEEP_SECONDS = 86_400;

/**
 * Stores the answer of a creating call in the transaction of its effect, so that a crash between effect and answer
 * cannot make a repeat create twice. Does nothing when the call carries no key.
 */
export type SaveAnswer = (q: Queryable, answer: unknown) => Promise<void>;

const saveNothing: SaveAnswer = async () => {};

export interface Call {
  readonly ctx: Context & { readonly caller: Actor };
  readonly path: string;
  readonly input: unknown;
}

/**
 * Runs a creating call once per (actor, procedure, `Idempotency-Key`) and answers repeats with the stored answer.
 * A refused call keeps nothing, so that its repeat may succeed.
 * @param rebuild makes the answer of a repeat from what was stored, for calls that store less than their answer
 * @throws DomainError `idempotency_key_reused` for another body, `idempotency_in_progress` while the first still runs
 */
export async function runOnce<T, Stored = T>(
  call: Call,
  run: (saveAnswer: SaveAnswer) => Promise<T>,
  rebuild?: (stored: Stored) => Promise<T>,
): Promise<T> {
  const key = call.ctx.request.idempotencyKey;
  if (key === undefined || call.ctx.caller.kind === 'public') return run(saveNothing);
  if (call.ctx.request.callCount > 1) throw invalidField('Idempotency-Key', 'is not allowed on a batch');
  if (!/^[\x20-\x7e]{1,255}$/.test(key)) throw invalidField('Idempotency-Key', 'must be 1 to 255 printable characters');
  const claim = await claimOrReplay(call, key);
  if (!('answer' in claim)) return runClaimed(call.ctx, claim, run);
  return rebuild === undefined ? (claim.answer as T) : rebuild(claim.answer as Stored);
}

async function runClaimed<T>(
  ctx: Context,
  claim: IdempotencyClaim,
  run: (saveAnswer: SaveAnswer) => Promise<T>,
): Promise<T> {
  const { store, secretBox } = ctx.services;
  let saved = false;
  const save: SaveAnswer = async (q, answer) => {
    const sealed = secretBox.seal({ column: 'idempotency_keys.answer', rowId: claim.id }, JSON.stringify(answer));
    if (!(await completeIdempotencyKey(q, claim, sealed))) throw inProgress();
    saved = true;
  };
  try {
    const answer = await run(save);
    if (!saved) await save(store, answer);
    return answer;
  } catch (error) {
    // An answer that was committed with its effect stays; a rolled-back one is still `running` and is let go.
    await releaseIdempotencyKey(store, claim).catch(() => undefined);
    throw error;
  }
}

async function claimOrReplay(call: Call, key: string): Promise<IdempotencyClaim | { answer: unknown }> {
  const { store, clock } = call.ctx.services;
  const now = clock.now();
  const id = { actor: actorName(call.ctx.caller), procedure: call.path, key };
  const requestHash = sha256Hex(JSON.stringify(sortKeys(call.input ?? null)));
  const leaseUntil = addSeconds(now, LEASE_SECONDS);
  const claimed = await claimIdempotencyKey(store, {
    ...id,
    request_hash: requestHash,
    lease_until: leaseUntil,
    created_at: now,
    expires_at: addSeconds(now, KEEP_SECONDS),
  });
  if (claimed !== undefined) return { id: claimed.id, lease_until: leaseUntil };
  const row = await findIdempotencyKey(store, id);
  if (row === undefined) throw inProgress();
  if (row.request_hash !== requestHash) throw new DomainError('idempotency_key_reused');
  if (row.answer !== null) return { answer: replay(call.ctx, row.id, row.answer) };
  const taken = await takeOverIdempotencyKey(store, row.id, { now, leaseUntil });
  if (!taken) throw inProgress();
  return { id: row.id, lease_until: leaseUntil };
}

function inProgress(): DomainError {
  return new DomainError('idempotency_in_progress', { retryAfterSeconds: 1 });
}

function replay(ctx: Context, rowId: number, sealed: string): unknown {
  ctx.responseHeaders.set('idempotency-replayed', 'true');
  return JSON.parse(ctx.services.secretBox.open({ column: 'idempotency_keys.answer', rowId }, sealed));
}

/** The same body in another key order is the same body. */
function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sortKeys(inner)]));
}
