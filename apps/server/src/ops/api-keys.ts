import { type ApiKeyRow, insertApiKey, revokeApiKey as revokeApiKeyRow } from '@vpn-api/db';
import { apiKeyHint, newApiKey, sha256Hex } from '../crypto/random.ts';
import { DomainError, invalidField } from '../domain/errors.ts';
import type { Services } from '../services.ts';
import { type AuditSource, audit } from './audit.ts';
import type { Committing } from './committing.ts';

export interface CreateApiKey {
  readonly name: string;
  readonly scopes: readonly string[];
  readonly expiresAt: string | null;
  readonly createdBy: number;
}

export interface CreatedApiKey {
  readonly row: ApiKeyRow;
  /** Shown in this one answer; the database has only its hash. */
  readonly key: string;
}

/** @throws DomainError `validation_failed` for an end in the past */
export async function createApiKey(
  { store, clock, random }: Pick<Services, 'store' | 'clock' | 'random'>,
  { name, scopes, expiresAt, createdBy }: CreateApiKey,
  { source, beforeCommit }: Committing<CreatedApiKey>,
): Promise<CreatedApiKey> {
  const now = clock.now();
  if (expiresAt !== null && expiresAt <= now) throw invalidField('expires_at', 'must be in the future');
  const key = newApiKey(random);
  return store.transaction(async (tx) => {
    const row = await insertApiKey(tx, {
      name,
      key_hash: sha256Hex(key),
      hint: apiKeyHint(key),
      scopes: [...new Set(scopes)],
      created_by: createdBy,
      created_at: now,
      expires_at: expiresAt,
    });
    const details = { name, scopes: row.scopes };
    await audit(tx, { ...source, at: now, action: 'api_key.create', target: `key:${row.id}`, details });
    await beforeCommit(tx, { row, key });
    return { row, key };
  });
}

/**
 * Ends a key at once.
 * @throws DomainError `api_key_not_found`, also for one that was revoked before
 */
export async function revokeApiKey(
  { store, clock }: Pick<Services, 'store' | 'clock'>,
  { keyId, source }: { readonly keyId: number; readonly source: AuditSource },
): Promise<void> {
  const at = clock.now();
  await store.transaction(async (tx) => {
    if (!(await revokeApiKeyRow(tx, keyId, at))) throw new DomainError('api_key_not_found');
    await audit(tx, { ...source, at, action: 'api_key.revoke', target: `key:${keyId}` });
  });
}
