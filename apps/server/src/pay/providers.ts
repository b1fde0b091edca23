import type { Config } from '../config/config.ts';
import { manualProvider } from './manual.ts';
import type { PaymentProvider } from './provider.ts';
import { standardProvider } from './standard.ts';

/** The providers that the configuration names; `manual` needs nothing and is always there. */
export function makeProviders(config: Config): ReadonlyMap<string, PaymentProvider> {
  const standard = [...config.payments.standardSenders].map(([name, secrets]) => standardProvider(name, secrets));
  return new Map([...standard, manualProvider].map((provider) => [provider.name, provider]));
}
