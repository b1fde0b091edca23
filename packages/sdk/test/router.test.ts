import { appRouter } from '@vpn-api/server/router';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { ANONYMOUS_PROCEDURES, IDEMPOTENT_PROCEDURES, REPEATABLE_PROCEDURES } from '../src/idempotent.ts';
import type { Credentials, TokensAnswer, VpnApiInputs, VpnApiOutputs } from '../src/index.ts';

/** The SDK takes only types from the server, so what it knows by name is held against the router here. */
interface ProcedureFacts {
  readonly type: 'query' | 'mutation' | 'subscription';
  readonly meta?: { readonly idempotent?: true; readonly access?: string } | undefined;
}

const procedures = new Map(
  Object.entries(appRouter._def.procedures as unknown as Record<string, { _def: ProcedureFacts }>).map(
    ([path, { _def }]) => [path, _def] as const,
  ),
);

function mutationsWhere(matches: (facts: ProcedureFacts) => boolean): string[] {
  return [...procedures].filter(([, facts]) => facts.type === 'mutation' && matches(facts)).map(([path]) => path);
}

describe('what the SDK knows of the router', () => {
  it('gives a key to exactly the mutations that the server runs once per key', () => {
    expect([...IDEMPOTENT_PROCEDURES].sort()).toEqual(mutationsWhere(({ meta }) => meta?.idempotent === true).sort());
  });

  it.each([...REPEATABLE_PROCEDURES, ...ANONYMOUS_PROCEDURES])('%s is a public mutation', (path) => {
    expect(mutationsWhere(({ meta }) => meta?.access === 'public')).toContain(path);
  });

  it('speaks the calls of a session as the router takes and answers them', () => {
    expectTypeOf<Credentials>().toExtend<VpnApiInputs['auth']['login']>();
    expectTypeOf<{ refresh_token: string }>().toExtend<VpnApiInputs['auth']['refresh']>();
    expectTypeOf<{ all?: true }>().toExtend<VpnApiInputs['auth']['logout']>();
    expectTypeOf<VpnApiOutputs['auth']['login']>().toExtend<TokensAnswer>();
    expectTypeOf<VpnApiOutputs['auth']['refresh']>().toExtend<TokensAnswer>();
  });
});
