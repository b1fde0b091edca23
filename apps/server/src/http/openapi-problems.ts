import { errorTable } from '../api/error-table.ts';
import { problemOf } from '../api/problem.ts';
import { DomainError, type ErrorCode } from '../domain/errors.ts';
import { PROBLEM_TYPE } from './refusal.ts';
import type { RestRoute } from './rest-routes.ts';

type Json = Record<string, unknown>;

const codes = Object.keys(errorTable) as ErrorCode[];

/** One response a status, with an example for every code that answers it. */
export function problemComponents(): { responses: Json } {
  return { responses: Object.fromEntries(statuses().map((status) => [responseName(status), responseFor(status)])) };
}

function statuses(): number[] {
  return [...new Set(codes.map((code) => errorTable[code].status))].sort((a, b) => a - b);
}

function responseName(status: number): string {
  return `Problem${status}`;
}

function responseFor(status: number): Json {
  const here = codes.filter((code) => errorTable[code].status === status);
  const examples = here.map((code) => [code, { value: problemOf(new DomainError(code), 'a1b2c3d4e5f6-7') }]);
  const [mediaType = ''] = PROBLEM_TYPE.split(';');
  const content = { [mediaType]: { schema: problemSchema(here), examples: Object.fromEntries(examples) } };
  const description = problemOf(new DomainError(here[0] ?? 'internal_error'), '').title;
  const waits = status === 429 || status === 503;
  return { description, ...(waits ? { headers: retryAfter } : {}), content };
}

const retryAfter = { 'Retry-After': { $ref: '#/components/headers/Retry-After' } };

function problemSchema(here: readonly ErrorCode[]): Json {
  return {
    type: 'object',
    properties: {
      type: { type: 'string' },
      title: { type: 'string' },
      status: { type: 'integer' },
      detail: { type: 'string', description: 'Safe to show.' },
      code: { type: 'string', enum: here },
      request_id: { type: 'string' },
      issues: {
        type: 'array',
        items: {
          type: 'object',
          properties: { path: { type: 'string' }, message: { type: 'string' } },
          required: ['path', 'message'],
        },
      },
    },
    required: ['type', 'title', 'status', 'detail', 'code', 'request_id'],
  };
}

/** The refusals that an operation can answer. Any may also answer 5xx. */
export function problemResponses(route: RestRoute, isProtected: boolean): Record<string, Json> {
  const { method, meta, pathKeys } = route;
  const changes = route.type === 'mutation';
  const hasBody = method === 'POST' || method === 'PUT';
  const possible: readonly (readonly [number, boolean])[] = [
    [400, route.input !== undefined],
    [401, true],
    [403, isProtected || changes],
    [404, pathKeys.length > 0 || isProtected],
    [409, changes],
    [413, hasBody],
    [415, hasBody],
    [422, meta.idempotent === true],
    [429, meta.rate !== 'none'],
    [500, true],
    [502, changes],
    [503, true],
  ];
  const answered = possible.filter(([, isPossible]) => isPossible).map(([status]) => status);
  return Object.fromEntries(
    answered.map((status) => [String(status), { $ref: `#/components/responses/${responseName(status)}` }]),
  );
}
