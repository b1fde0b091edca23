import { afterEach, describe, expect, test } from 'vitest';
import { type ConformanceSubject, conformanceChecks } from '../../src/conformance.ts';
import { openWgEasyDriver } from '../../src/wg-easy/wg-easy-driver.ts';
import { startWgEasyStub, type WgEasyStub } from './stub.ts';

let stubs: WgEasyStub[] = [];

afterEach(() => {
  for (const stub of stubs) expect(stub.maxConcurrentMutations).toBeLessThanOrEqual(1);
  stubs = [];
});

describe.each([14, 15] as const)('the driver of wg-easy %i conforms', (version) => {
  const makeSubject = async (): Promise<ConformanceSubject> => {
    const stub = await startWgEasyStub({ version });
    stubs.push(stub);
    const driver = openWgEasyDriver({ url: stub.url, password: stub.password, allowPrivate: ['127.0.0.0/8'] });
    return {
      driver,
      pool: '10.8.0.0/24',
      // The pool of a wg-easy ends at 253.
      manyPeers: 250,
      addForeignPeer: async (address) => stub.add('by hand', address.split('/')[0]).publicKey,
      [Symbol.asyncDispose]: async () => {
        await driver[Symbol.asyncDispose]();
        await stub[Symbol.asyncDispose]();
      },
    };
  };

  for (const check of conformanceChecks.filter(({ keys }) => keys.includes('reported'))) {
    test(check.name, () => check.run(makeSubject));
  }
});
