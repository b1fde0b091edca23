import type { ProviderCallSample } from '../obs/metrics.ts';
import { ProviderError } from '../pay/provider.ts';
import type { Services } from '../services.ts';

/** One round of a job that asks providers. */
export interface Round {
  readonly signal: AbortSignal;
  /** Providers that did not answer in this round: the rest of it does not wait for them again. */
  readonly down: Set<string>;
}

export function newRound(signal: AbortSignal): Round {
  return { signal, down: new Set() };
}

/** A provider that works answers within a second or two. */
const CALL_MS = 10_000;

interface Asking<T> extends Pick<ProviderCallSample, 'provider' | 'call'> {
  readonly round: Round;
  readonly ask: (signal: AbortSignal) => Promise<T>;
}

/** Asks a provider, with no transaction open; a failure is answered, not thrown. */
export async function askProvider<T>(
  { metrics }: Pick<Services, 'metrics'>,
  { provider, call, round, ask }: Asking<T>,
): Promise<{ readonly answer: T } | { readonly failure: ProviderError }> {
  if (round.down.has(provider))
    return { failure: new ProviderError('unavailable', `${provider} did not answer before`) };
  try {
    const answer = await ask(AbortSignal.any([round.signal, AbortSignal.timeout(CALL_MS)]));
    metrics.countProviderCall({ provider, call, result: 'ok' });
    return { answer };
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    metrics.countProviderCall({ provider, call, result: error.kind });
    if (error.kind !== 'refused') round.down.add(provider);
    return { failure: error };
  }
}
