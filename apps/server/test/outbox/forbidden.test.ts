import { describe, expect, test } from 'vitest';
import { engines, startApp } from '../harness.ts';
import { answer, Receiver } from './receiver.ts';
import { addEndpoint, adminToken, deliveries, makeNews, startOutboxApp } from './world.ts';

describe.each(engines)('addresses that are nobody else’s business, on %s', (engine) => {
  test('are refused when the endpoint is saved, in every spelling', async () => {
    await using app = await startApp({ engine });
    const token = await adminToken(app);
    const hosts = [
      ...['127.0.0.1', '10.0.0.1', '192.168.1.1', '172.16.0.1', '169.254.169.254', '0.0.0.0', '100.64.0.1'],
      ...['2130706433', '0x7f000001', '0177.0.0.1', '127.1', '[::1]', '[::ffff:127.0.0.1]', '[fe80::1]', '[fd00::1]'],
    ];
    for (const host of hosts) {
      const made = await app.rest('POST', '/webhook_endpoints', { token, body: { url: `https://${host}/hook` } });
      expect(made.status, host).toBe(400);
      expect(made.body.issues, host).toMatchObject([{ path: 'url' }]);
    }
    for (const url of ['ftp://example.com/', 'https://user:secret@example.com/', 'https://exa mple.com/', 'nothing']) {
      const made = await app.rest('POST', '/webhook_endpoints', { token, body: { url } });
      expect([made.status, made.text.includes('secret')], url).toEqual([400, false]);
    }
  });

  test('in production a receiver in the open is https', async () => {
    const env = { NODE_ENV: 'production', METRICS_TOKEN: 'Zr8vQ2kLmX4tYw6BnC1d', DEV_INIT_DB: '1' };
    await using app = await startApp({ engine, env: { ...env, ...production } });
    const token = await adminToken(app);
    const save = (url: string) => app.rest('POST', '/webhook_endpoints', { token, body: { url } });
    expect((await save('http://hooks.example.com/')).status).toBe(400);
    expect((await save('https://hooks.example.com/')).status).toBe(200);
    expect((await save('http://10.9.8.7/hook')).status).toBe(200);
  });

  test('get nothing by a name that resolves to them', async () => {
    await using receiver = await Receiver.start();
    await using app = await startApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url.replace('127.0.0.1', 'localhost') });
    await makeNews(app);
    await app.settled();
    expect(receiver.received).toEqual([]);
    const [delivery] = await deliveries(app, endpoint);
    expect(delivery).toMatchObject({ status: 'pending', attempts: 1, last_status: null });
    expect(delivery?.last_error).toContain('private');
  });

  test('get nothing by a redirect, which is a failure and not followed', async () => {
    await using target = await Receiver.start('127.0.0.2');
    await using receiver = await Receiver.start();
    await using app = await startOutboxApp({ engine });
    const endpoint = await addEndpoint(app, { url: receiver.url });
    receiver.behaviour = answer(307, { location: target.url });
    await makeNews(app);
    await app.settled();
    expect(target.received).toEqual([]);
    expect(await deliveries(app, endpoint)).toMatchObject([{ status: 'pending', last_error: 'answered 307' }]);
  });

  test('get nothing after the list was shortened, though the endpoint was saved before', async () => {
    await using receiver = await Receiver.start();
    await using app = await startApp({ engine });
    const endpoint = await addEndpoint(app, { url: 'https://hooks.example.com/' });
    await app.store.kysely
      .updateTable('webhook_endpoints')
      .set({ url: receiver.url })
      .where('id', '=', endpoint.id)
      .execute();
    await makeNews(app);
    await app.settled();
    expect(receiver.received).toEqual([]);
    expect((await deliveries(app, endpoint))[0]?.last_error).toContain('private');
  });
});

/** Random text, as production asks for. */
const production = {
  SECRET_KEY: 'jW3pXv9QkTz7RbL2mNcY5hFgD8sA4eUo6iKxVqBt',
  CONFIG_ENCRYPTION_KEY: 'q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=',
  PROMOTE_SECRET: 'Hk4Lw9PzXe2Vb7Nm5Qc8Rt3Yg6Uj1Sd0Fa',
  PAYMENT_WEBHOOK_SECRET: 'whsec_q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=',
  PAYMENT_WEBHOOK_SECRETS: '',
  OUTBOUND_ALLOW: '10.0.0.0/8',
};
