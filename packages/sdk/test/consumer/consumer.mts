import { createVpnApiClient, isVpnApiError, paginate, webhooks } from '@vpn-api/sdk';

/** What a bot's backend does, as an ES module. */
export async function run(baseUrl: string): Promise<object> {
  const api = createVpnApiClient({ baseUrl });
  const [first] = await api.tariff.list.query({ limit: 1 });
  const ids: number[] = [];
  for await (const { id } of paginate(api.tariff.list.query, { limit: 10 })) ids.push(id);
  const refusal = await api.auth.me.query().catch((error: unknown) => error);
  const code = isVpnApiError(refusal) ? refusal.code : 'none';
  const body = '{}';
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  const headers = await webhooks.sign({ secret, id: 'msg_1', body });
  const { id: webhook } = await webhooks.verify({ secret, headers: { ...headers }, body });
  return { name: first?.name, count: ids.length, code, webhook };
}
