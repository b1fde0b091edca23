import type { FastifyRequest } from 'fastify';
import type { RequestInfo } from '../api/context.ts';
import { clientAddress } from './client-address.ts';

interface Call {
  readonly transport: RequestInfo['transport'];
  readonly callCount: number;
}

/** What both transports tell the procedures about a request. */
export function requestInfo(request: FastifyRequest, { transport, callCount }: Call): RequestInfo {
  const { headers } = request;
  return {
    id: request.id,
    ip: clientAddress(request),
    userAgent: headers['user-agent'],
    transport,
    authorization: headers.authorization,
    idempotencyKey: headers['idempotency-key'] as string | undefined,
    callCount,
  };
}
