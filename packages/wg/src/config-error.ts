/** The text or value of `field` cannot go into a client config. The message never repeats it. */
export class ClientConfigError extends Error {
  override readonly name = 'ClientConfigError';
  readonly code = 'bad_client_config';
  readonly field: string;

  constructor(field: string, message: string, options?: { readonly cause?: unknown }) {
    super(`${field}: ${message}`, options);
    this.field = field;
  }
}
