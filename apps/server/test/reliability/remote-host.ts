import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { DriverError, FakeHost, type PeerChange, type PublicKey, type WgDriver } from '@vpn-api/wg';

/** A host that outlives the servers that work on it: it stands in the test's process, they in processes that are killed. */
export interface RemoteHost extends AsyncDisposable {
  readonly host: FakeHost;
  readonly url: string;
}

export async function startRemoteHost(): Promise<RemoteHost> {
  const host = new FakeHost();
  const driver = host.driver();
  const server = createServer(async (request, response) => {
    const signal = AbortSignal.timeout(5_000);
    const answers = {
      '/describe': () => driver.describe(signal),
      '/list': () => driver.list(signal),
      '/apply': async () => driver.apply(JSON.parse(await text(request)) as PeerChange[], signal),
    };
    const answer = answers[request.url as keyof typeof answers];
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(await answer()));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Works on a {@link RemoteHost} from another process. */
export function remoteDriver(url: string): WgDriver {
  const ask = async <T>(path: string, signal: AbortSignal, body?: unknown): Promise<T> => {
    try {
      const options = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
      return (await (await fetch(`${url}${path}`, { ...options, signal })).json()) as T;
    } catch (cause) {
      throw new DriverError('unknown_outcome', 'the remote host did not answer', { cause });
    }
  };
  return {
    kind: 'fake',
    keys: 'given',
    suspend: 'remove',
    describe: (signal) => ask<{ publicKey: PublicKey }>('/describe', signal),
    list: (signal) => ask('/list', signal),
    apply: (changes, signal) => ask('/apply', signal, changes),
    [Symbol.asyncDispose]: async () => {},
  };
}
