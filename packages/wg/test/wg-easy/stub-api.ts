/** A request as the API of a stub sees it. */
export interface StubRequest {
  readonly method: string;
  /** Without query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
}

export interface StubAnswer {
  readonly status: number;
  readonly statusMessage?: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

export type MutationKind = 'create' | 'enable' | 'disable' | 'delete' | 'update';

/**
 * Runs a change of the table and the sync after it. `ok` is false when the sync failed, which leaves the table changed.
 * `overlapped`: another change was under way.
 */
export type Mutator = (
  kind: MutationKind,
  work: () => void,
) => Promise<{ readonly ok: boolean; readonly overlapped: boolean }>;

/** One version of wg-easy, as recorded. */
export interface StubApi {
  handle(request: StubRequest, mutate: Mutator): Promise<StubAnswer>;
  /** What an error inside answers. */
  serverError(request: StubRequest): StubAnswer;
  /** The process was restarted. */
  forgetSessions(): void;
}

/** An answer that ends the handling of a request. */
export class StubHttpError extends Error {
  readonly answer: StubAnswer;

  constructor(answer: StubAnswer) {
    super(`${answer.status}`);
    this.answer = answer;
  }
}

export function jsonAnswer(
  value: unknown,
  { status = 200, statusMessage, cookie }: { status?: number; statusMessage?: string; cookie?: string } = {},
): StubAnswer {
  return {
    status,
    ...(statusMessage === undefined ? {} : { statusMessage }),
    headers: [['content-type', 'application/json'], ...(cookie === undefined ? [] : [['set-cookie', cookie] as const])],
    body: status === 200 ? JSON.stringify(value) : JSON.stringify(value, null, 2),
  };
}

export function textAnswer(contentType: string, body: string, filename?: string): StubAnswer {
  const disposition = [['content-disposition', `attachment; filename="${filename}"`] as const];
  return {
    status: 200,
    headers: [...(filename === undefined ? [] : disposition), ['content-type', contentType]],
    body,
  };
}

export function readCookie(request: StubRequest, name: string): string | undefined {
  const cookies = (request.headers.cookie ?? '').split('; ');
  return cookies.find((cookie) => cookie.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** undefined for a body that is none. @throws SyntaxError */
export function parseBody(body: string): unknown {
  return body === '' ? undefined : JSON.parse(body);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export const SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 77 77"></svg>';
