import { z } from 'zod';
import { DriverError } from '../driver.ts';
import { type HttpAnswer, type HttpClient, type HttpRequest, readJson } from './http-client.ts';
import { checkStatus } from './protocol.ts';

/**
 * Which wg-easy answers at this address. The order matters: v14 answers 500 to everything it does not know, and v15 answers
 * 500 about itself when it cannot reach the internet.
 * @throws DriverError `refused` for other versions, `bad_answer` for something else than wg-easy
 */
export async function detectVersion(http: HttpClient, signal: AbortSignal): Promise<14 | 15> {
  const release = await ask(http, '/api/release', signal);
  if (release.status === 200) return readRelease(release);
  checkGateway(release);
  const information = await ask(http, '/api/information', signal);
  if (information.status === 200) return readInformation(information);
  if (information.status === 500 && isV15Error(information)) return 15;
  const session = await ask(http, '/api/session', signal);
  if (session.status === 401 && isV15Error(session, 'Not authenticated')) return 15;
  throw new DriverError('bad_answer', 'what answers at this address is not wg-easy 14 or 15');
}

function ask(http: HttpClient, path: string, signal: AbortSignal): Promise<HttpAnswer> {
  return http.send({ ...ASKED, path }, signal);
}

const ASKED = { method: 'GET', what: 'ask for the version' } as const satisfies Partial<HttpRequest>;

function checkGateway(answer: HttpAnswer): void {
  if (answer.status === 502 || answer.status === 503 || answer.status === 504)
    checkStatus({ ...ASKED, path: '' }, answer);
}

function readRelease(answer: HttpAnswer): 14 {
  const release = Number(readJson(ASKED.what, answer, z.union([z.number(), z.string().max(20)])));
  if (release === 14) return 14;
  throw unsupported(release);
}

function readInformation(answer: HttpAnswer): 15 {
  const { currentRelease } = readJson(ASKED.what, answer, z.object({ currentRelease: z.string().max(40) }));
  const major = Number(/^v?([0-9]{1,4})\./.exec(currentRelease)?.[1]);
  if (major === 15) return 15;
  throw unsupported(major);
}

function unsupported(version: number): DriverError {
  const name = Number.isInteger(version) ? `wg-easy ${version}` : 'this build of wg-easy';
  return new DriverError('refused', `${name} is not supported: 14 and 15 are`);
}

function isV15Error(answer: HttpAnswer, message?: string): boolean {
  const schema = z.object({ error: z.literal(true), statusMessage: z.string() });
  try {
    const { statusMessage } = readJson(ASKED.what, answer, schema);
    return message === undefined || statusMessage === message;
  } catch {
    return false;
  }
}
