import { authenticate } from '../ops/authenticate.ts';
import type { Services } from '../services.ts';
import type { Actor } from './actor.ts';

/** What a transport knows of one HTTP request. */
export interface RequestInfo {
  readonly id: string;
  /** The client's address, after trusted proxies. */
  readonly ip: string;
  readonly userAgent: string | undefined;
  readonly transport: 'rest' | 'trpc';
  readonly authorization: string | undefined;
  readonly idempotencyKey: string | undefined;
  /** Procedure calls in this HTTP request; more than one only in a tRPC batch. */
  readonly callCount: number;
}

export interface Context {
  readonly services: Services;
  readonly request: RequestInfo;
  /** Response headers a procedure asks for, lower-case names. */
  readonly responseHeaders: Map<string, string>;
  /** Who calls; resolved once per HTTP request, so that a batch of ten costs one look-up. */
  actor(): Promise<Actor>;
}

/** The one way to make a context, used by both transports. */
export function makeContext(services: Services, request: RequestInfo): Context {
  let actor: Promise<Actor> | undefined;
  return {
    services,
    request,
    responseHeaders: new Map(),
    actor: () => {
      actor ??= authenticate(services, request.authorization);
      return actor;
    },
  };
}
