import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { Webhook } from 'standardwebhooks';

/** A webhook as it arrived. */
export interface Received {
  readonly id: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly raw: string;
  readonly type: string;
  readonly data: Record<string, unknown>;
}

export type Behaviour = (response: ServerResponse, request: IncomingMessage) => void;

/** What a receiver does that takes everything. */
export const accept: Behaviour = (response) => response.writeHead(204).end();
export const answer =
  (status: number, headers: Record<string, string> = {}): Behaviour =>
  (response) =>
    response.writeHead(status, headers).end('no');
/** Never answers. */
export const hang: Behaviour = () => {};
/** Breaks the connection after it has read everything. */
export const vanish: Behaviour = (response) => response.destroy();

/** A real HTTP server somewhere outside, with manners of its own. */
export class Receiver implements AsyncDisposable {
  readonly received: Received[] = [];
  behaviour: Behaviour = accept;
  readonly url: string;
  readonly #stop: () => Promise<void>;

  private constructor(url: string, stop: () => Promise<void>) {
    this.url = url;
    this.#stop = stop;
  }

  static async start(host = '127.0.0.1', wantedPort = 0): Promise<Receiver> {
    let receiver: Receiver | undefined;
    const server = createServer(async (request, response) => {
      const raw = await text(request);
      const headers = request.headers as Record<string, string>;
      const { type, data } = JSON.parse(raw);
      receiver?.received.push({ id: headers['webhook-id'] ?? '', headers, raw, type, data });
      receiver?.behaviour(response, request);
    });
    server.listen(wantedPort, host);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    receiver = new Receiver(`http://${host === '::1' ? '[::1]' : host}:${port}/hook`, async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    });
    return receiver;
  }

  get types(): string[] {
    return this.received.map(({ type }) => type);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stop();
  }
}

/** Checks a signature by the code of the standard's own authors. The time is ours: theirs compares with the real one. */
export function isSignedBy({ headers, raw, id }: Received, secret: string): boolean {
  const sentAt = new Date(Number(headers['webhook-timestamp']) * 1000);
  const expected = new Webhook(secret).sign(id, sentAt, raw);
  return (headers['webhook-signature'] ?? '').split(' ').includes(expected);
}
