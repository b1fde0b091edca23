import type { Config } from '../config/config.ts';
import { cryptoPayProvider } from './crypto-pay.ts';
import { manualProvider } from './manual.ts';
import type { PaymentProvider } from './provider.ts';
import { standardProvider } from './standard.ts';
import { stripeProvider } from './stripe.ts';
import { telegramStarsProvider } from './telegram-stars.ts';
import { yookassaProvider } from './yookassa.ts';

/** The providers that the configuration names; `manual` needs nothing and is always there. */
export function makeProviders(config: Config): ReadonlyMap<string, PaymentProvider> {
  const standard = [...config.payments.standardSenders].map(([name, secrets]) => standardProvider(name, secrets));
  const built = [makeStripe(config), makeYookassa(config), makeCryptoPay(config), makeTelegramStars(config)];
  const providers = [...standard, ...built.filter((provider) => provider !== undefined), manualProvider];
  return new Map(providers.map((provider) => [provider.name, provider]));
}

// Where two things are asked for, the configuration was refused if only one of them is there.

function makeStripe({ payments, secrets, publicUrl }: Config): PaymentProvider | undefined {
  if (payments.stripe === undefined || secrets.stripe === undefined || publicUrl === undefined) return undefined;
  return stripeProvider({ ...payments.stripe, ...secrets.stripe, publicUrl });
}

function makeYookassa({ payments, secrets, publicUrl }: Config): PaymentProvider | undefined {
  const { yookassaSecretKey: secretKey } = secrets;
  if (payments.yookassa === undefined || secretKey === undefined || publicUrl === undefined) return undefined;
  return yookassaProvider({ ...payments.yookassa, secretKey, publicUrl });
}

function makeCryptoPay({ payments, secrets }: Config): PaymentProvider | undefined {
  if (payments.cryptoPay === undefined || secrets.cryptoPayToken === undefined) return undefined;
  return cryptoPayProvider({ ...payments.cryptoPay, token: secrets.cryptoPayToken });
}

function makeTelegramStars({ payments, secrets }: Config): PaymentProvider | undefined {
  if (payments.telegramStars === undefined || secrets.telegram === undefined) return undefined;
  return telegramStarsProvider({ ...payments.telegramStars, ...secrets.telegram });
}
