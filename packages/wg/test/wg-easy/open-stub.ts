import { openWgEasyDriver, type WgEasyDriver, type WgEasyOptions } from '../../src/wg-easy/wg-easy-driver.ts';
import { startWgEasyStub, type WgEasyStub, type WgEasyStubOptions } from './stub.ts';

export interface OpenStub extends AsyncDisposable {
  readonly stub: WgEasyStub;
  readonly driver: WgEasyDriver;
  /** What the driver said it had to repair. */
  readonly log: string[];
}

/** A stub and a driver for it that knows the password. */
export async function openStub(
  stubOptions: WgEasyStubOptions,
  driverOptions: Partial<WgEasyOptions> = {},
): Promise<OpenStub> {
  const stub = await startWgEasyStub(stubOptions);
  const log: string[] = [];
  const driver = openWgEasyDriver({
    url: stub.url,
    password: stub.password,
    allowPrivate: ['127.0.0.0/8'],
    // A busy machine takes its time, and what hangs is waited for that long.
    requestMs: 1_000,
    log: (message) => log.push(message),
    ...driverOptions,
  });
  return {
    stub,
    driver,
    log,
    [Symbol.asyncDispose]: async () => {
      await driver[Symbol.asyncDispose]();
      await stub[Symbol.asyncDispose]();
    },
  };
}
