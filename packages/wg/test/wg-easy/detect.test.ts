import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { openWgEasyDriver } from '../../src/wg-easy/wg-easy-driver.ts';

interface Answer {
  readonly status: number;
  readonly type?: string;
  readonly encoding?: string;
  readonly body: string;
}
/** By path, or by method and path. */
type Answers = Readonly<Record<string, Answer>>;

/** Something that answers each path in one way, everything else with 404. */
async function listWith(answers: Answers): Promise<unknown> {
  const server = createServer((request, response) => {
    const { method, url = '' } = request;
    const answer: Answer = answers[`${method} ${url}`] ?? answers[url] ?? { status: 404, body: '{}' };
    const { status, type = 'application/json', encoding, body } = answer;
    response
      .writeHead(status, { 'content-type': type, ...(encoding !== undefined && { 'content-encoding': encoding }) })
      .end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await using driver = openWgEasyDriver({ url, password: 'CANARY', allowPrivate: ['127.0.0.0/8'] });
    return await driver.list(AbortSignal.timeout(5_000)).catch((error: unknown) => error);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

const v15Error = (statusMessage: string) =>
  JSON.stringify({ error: true, statusCode: 500, statusMessage, message: '' });

test.each([
  ['a wg-easy 13', { '/api/release': { status: 200, body: '13' } }, 'refused', /wg-easy 13 is not supported/],
  [
    'a wg-easy 16',
    { '/api/information': { status: 200, body: '{"currentRelease":"v16.0.0"}' } },
    'refused',
    /wg-easy 16/,
  ],
  [
    'a development build',
    { '/api/information': { status: 200, body: '{"currentRelease":"edge"}' } },
    'refused',
    /this build/,
  ],
  ['another program', {}, 'bad_answer', /not wg-easy/],
  [
    'a page',
    { '/api/release': { status: 200, type: 'text/html', body: '<html>14</html>' } },
    'bad_answer',
    /could not be read/,
  ],
  ['a text', { '/api/release': { status: 200, body: 'CANARY not JSON' } }, 'bad_answer', /could not be read/],
  ['packed text', { '/api/release': { status: 200, encoding: 'gzip', body: '14' } }, 'bad_answer', /compressed/],
  ['a proxy without wg-easy', { '/api/release': { status: 503, type: 'text/html', body: '' } }, 'unreachable', /503/],
] as const)('%s is not taken for a wg-easy that can be driven', async (_, answers, code, message) => {
  const error = await listWith(answers);
  expect(error).toMatchObject({ name: 'DriverError', code, message: expect.stringMatching(message) });
  expect(String((error as Error).stack)).not.toContain('CANARY');
});

test.each([
  ['its information', { '/api/information': { status: 200, body: '{"currentRelease":"v15.4.0"}' } }],
  ['an error about itself', { '/api/information': { status: 500, body: v15Error('Failed to fetch latest release') } }],
  ['how it speaks to strangers', { '/api/session': { status: 401, body: v15Error('Not authenticated') } }],
] as const)('a wg-easy 15 is known by %s', async (_, answers) => {
  // It is spoken to as a 15 is: this one has no login.
  await expect(listWith(answers)).resolves.toMatchObject({ message: 'log in: wg-easy answered 404' });
});

test('a wg-easy 14 without a password, which lets everybody in and nobody log in, is driven as it is', async () => {
  const answers = {
    '/api/release': { status: 200, body: '14' },
    'POST /api/session': { status: 401, body: '{"statusCode":401,"stack":[]}' },
    'GET /api/session': { status: 200, body: '{"requiresPassword":false,"authenticated":true}' },
    '/api/wireguard/client': { status: 200, body: '[]' },
  };
  await expect(listWith(answers)).resolves.toEqual([]);
});
