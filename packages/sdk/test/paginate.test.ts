import { describe, expect, it } from 'vitest';
import { paginate } from '../src/paginate.ts';
import { clientOf } from './fixtures/client.ts';
import { startServer } from './fixtures/server.ts';

async function idsOf(rows: AsyncIterable<{ id: number }>): Promise<number[]> {
  const ids: number[] = [];
  for await (const { id } of rows) ids.push(id);
  return ids;
}

const all = Array.from({ length: 25 }, (_, index) => index + 1);

describe('paginate', () => {
  it.each([
    [1, 26],
    [5, 6],
    [10, 3],
    [100, 1],
  ])('gives every row once with pages of %i', async (limit, requests) => {
    await using server = await startServer();
    const api = clientOf(server);
    expect(await idsOf(paginate(api.tariff.list.query, { limit }))).toEqual(all);
    expect(server.requests).toHaveLength(requests);
  });

  it('asks for full pages by itself', async () => {
    await using server = await startServer();
    expect(await idsOf(paginate(clientOf(server).tariff.list.query))).toEqual(all);
    expect(decodeURIComponent(server.requests[0]?.url ?? '')).toContain('"limit":100');
  });

  it('begins after a given row', async () => {
    await using server = await startServer();
    expect(await idsOf(paginate(clientOf(server).tariff.list.query, { after_id: 22, limit: 2 }))).toEqual([23, 24, 25]);
  });

  it('asks for no further page when the reader stops', async () => {
    await using server = await startServer();
    for await (const row of paginate(clientOf(server).tariff.list.query, { limit: 5 })) if (row.id === 3) break;
    expect(server.requests).toHaveLength(1);
  });

  it('misses and doubles nothing when rows vanish between pages', async () => {
    await using server = await startServer();
    const seen: number[] = [];
    for await (const { id } of paginate(clientOf(server).tariff.list.query, { limit: 5 })) {
      seen.push(id);
      if (id === 5) server.state.tariffs.splice(0, 3);
    }
    expect(seen).toEqual(all);
  });

  it('stops with the error of the page', async () => {
    await using server = await startServer();
    const rows = paginate(clientOf(server).tariff.list.query, { limit: 5 }, { signal: AbortSignal.abort() });
    await expect(idsOf(rows)).rejects.toMatchObject({ code: 'aborted' });
  });

  it('ends instead of running in circles when a server ignores after_id', async () => {
    const rows = paginate(async (_: { after_id?: number; limit?: number }) => [{ id: 1 }, { id: 2 }], { limit: 2 });
    await expect(idsOf(rows)).rejects.toThrow(TypeError);
  });
});
