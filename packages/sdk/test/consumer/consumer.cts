import sdk = require('@vpn-api/sdk');

/** The same through `require`. */
export async function run(baseUrl: string): Promise<object> {
  const api = sdk.createVpnApiClient({ baseUrl });
  const [first] = await api.tariff.list.query({ limit: 1 });
  const ids: number[] = [];
  for await (const { id } of sdk.paginate(api.tariff.list.query, { limit: 10 })) ids.push(id);
  const refusal = await api.auth.me.query().catch((error: unknown) => error);
  const code = sdk.isVpnApiError(refusal) ? refusal.code : 'none';
  const body = '{}';
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  const headers = await sdk.webhooks.sign({ secret, id: 'msg_1', body });
  const { id: webhook } = await sdk.webhooks.verify({ secret, headers: { ...headers }, body });
  return { name: first?.name, count: ids.length, code, webhook };
}
