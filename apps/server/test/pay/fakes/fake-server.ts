import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ANSWER_CANARY, type Fault } from '../../../src/pay/conformance.ts';

export interface FakeRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface FakeAnswer {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Does what is asked, or what is left of it under the fault. */
export type FakeHandler = (request: FakeRequest, fault: Fault | undefined) => FakeAnswer;

/** A request that was done, and whose answer waits. */
export interface HeldAnswer {
  /** When the request has come and was done. */
  readonly done: Promise<void>;
  release(): void;
}

/** A provider's HTTP side, which can be told to misbehave. */
export class FakeServer implements AsyncDisposable {
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  readonly #faults = new Map<string, Fault[]>();
  readonly #held = new Map<string, (() => Promise<void>)[]>();
  readonly #handle: FakeHandler;
  /** Every request so far that was not refused, busy or foreign. */
  readonly requests: FakeRequest[] = [];
  url = '';

  constructor(handle: FakeHandler) {
    this.#handle = handle;
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  fail(fault: Fault, method: 'GET' | 'POST'): void {
    this.#faults.set(method, [...(this.#faults.get(method) ?? []), fault]);
  }

  /** Forgets the faults that have struck nothing yet. */
  recover(): void {
    this.#faults.clear();
  }

  /** Keeps back the answer to the next request of that method. */
  hold(method: 'GET' | 'POST'): HeldAnswer {
    const done = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const wait = () => {
      done.resolve();
      return released.promise;
    };
    this.#held.set(method, [...(this.#held.get(method) ?? []), wait]);
    return { done: done.promise, release: released.resolve };
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = await readRequest(incoming);
    const fault = this.#faults.get(request.method)?.shift();
    if (fault === 'refuse') return send(response, failure(400));
    if (fault === 'busy') return send(response, failure(429));
    this.requests.push(request);
    const answer = this.#handle(request, fault);
    await this.#held.get(request.method)?.shift()?.();
    if (fault === 'hang') return;
    if (fault === 'drop') return void incoming.socket.destroy();
    if (fault === 'page') return void response.writeHead(200).end(`<html>${ANSWER_CANARY}</html>`);
    send(response, answer);
  }
}

async function readRequest(incoming: IncomingMessage): Promise<FakeRequest> {
  const url = new URL(incoming.url ?? '/', 'http://fake');
  const body = Buffer.concat(await incoming.toArray()).toString();
  const { method = 'GET', headers } = incoming;
  return { method, path: url.pathname, query: url.searchParams, headers, body };
}

function send(response: ServerResponse, { status, body, headers }: FakeAnswer): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

export function failure(status: number, fields: Record<string, unknown> = {}): FakeAnswer {
  return { status, body: { ok: false, type: 'error', error: { message: ANSWER_CANARY, ...fields } } };
}

/** The two faults that concern the work itself, for a provider that keeps no record of its failures. */
export function underFault(fault: Fault | undefined, work: () => FakeAnswer): FakeAnswer {
  if (fault === 'fail_before') return failure(500);
  const answer = work();
  return fault === 'fail_after' ? failure(500) : answer;
}
