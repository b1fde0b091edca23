import { inspect } from 'node:util';
import type { EncryptionKey } from '../crypto/secret-box.ts';

export interface SecretValues {
  /** Signs access tokens and peppers passwords. */
  readonly secretKey: string;
  /** The first encrypts, all decrypt. */
  readonly encryptionKeys: readonly EncryptionKey[];
  /** Bootstraps the first admin; without it that path is closed. */
  readonly promoteSecret: string | undefined;
  /** Bearer for `/metrics`. */
  readonly metricsToken: string | undefined;
  readonly stripe: { readonly secretKey: string; readonly webhookSecret: string } | undefined;
  readonly yookassaSecretKey: string | undefined;
  readonly cryptoPayToken: string | undefined;
  /** Of the default server: a wg-easy's password and API key, the passphrase of an SSH key. */
  readonly host: {
    readonly password: string | undefined;
    readonly apiKey: string | undefined;
    readonly passphrase: string | undefined;
  };
  readonly telegram: { readonly botToken: string; readonly webhookSecret: string } | undefined;
}

const REDACTED = '[secrets]';

/** Every way a value is commonly printed by accident: template, JSON, `console.log`. */
abstract class Redacted {
  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}

/** The secrets of the configuration, readable by name and printable by no accident. */
export class Secrets extends Redacted implements SecretValues {
  readonly #values: SecretValues;

  constructor(values: SecretValues) {
    super();
    this.#values = Object.freeze({ ...values, encryptionKeys: Object.freeze([...values.encryptionKeys]) });
    Object.freeze(this);
  }

  get secretKey(): string {
    return this.#values.secretKey;
  }

  get encryptionKeys(): readonly EncryptionKey[] {
    return this.#values.encryptionKeys;
  }

  get promoteSecret(): string | undefined {
    return this.#values.promoteSecret;
  }

  get metricsToken(): string | undefined {
    return this.#values.metricsToken;
  }

  get stripe(): SecretValues['stripe'] {
    return this.#values.stripe;
  }

  get yookassaSecretKey(): string | undefined {
    return this.#values.yookassaSecretKey;
  }

  get cryptoPayToken(): string | undefined {
    return this.#values.cryptoPayToken;
  }

  get host(): SecretValues['host'] {
    return this.#values.host;
  }

  get telegram(): SecretValues['telegram'] {
    return this.#values.telegram;
  }

  /** These secrets with some replaced, for tests. */
  with(changes: Partial<SecretValues>): Secrets {
    return new Secrets({ ...this.#values, ...changes });
  }
}
