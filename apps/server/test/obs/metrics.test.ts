import { expect, test } from 'vitest';
import { Metrics } from '../../src/obs/metrics.ts';

const make = () => new Metrics({ processMetrics: false });

async function samples(metrics: Metrics): Promise<string[]> {
  const { body } = await metrics.render();
  return body.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

test('two servers in one process count apart', async () => {
  const [one, two] = [make(), make()];
  one.countWebhook('standard', 'settled');
  expect(await samples(one)).toContain('vpn_api_payment_webhooks_total{provider="standard",outcome="settled"} 1');
  expect((await samples(two)).join('\n')).not.toContain('standard');
});

test('a procedure call is counted by outcome and timed', async () => {
  const metrics = make();
  metrics.startProcedure('tariff.list')('ok');
  metrics.startProcedure('tariff.list')('rate_limited');
  const lines = await samples(metrics);
  expect(lines).toContain('vpn_api_procedure_calls_total{procedure="tariff.list",outcome="ok"} 1');
  expect(lines).toContain('vpn_api_procedure_calls_total{procedure="tariff.list",outcome="rate_limited"} 1');
  expect(lines).toContain('vpn_api_procedure_duration_seconds_count{procedure="tariff.list"} 2');
});

test('requests without a route share one series, whatever path was asked for', async () => {
  const metrics = make();
  metrics.observeRequest({ method: 'GET', route: '/peers/:id', status: 200, seconds: 0.02 });
  metrics.observeRequest({ method: 'GET', route: undefined, status: 404, seconds: 0.001 });
  metrics.observeRequest({ method: 'GET', route: undefined, status: 404, seconds: 0.001 });
  const counts = (await samples(metrics)).filter((line) =>
    line.startsWith('vpn_api_http_request_duration_seconds_count'),
  );
  expect(counts).toEqual([
    'vpn_api_http_request_duration_seconds_count{method="GET",route="/peers/:id",status="200"} 1',
    'vpn_api_http_request_duration_seconds_count{method="GET",route="unknown",status="404"} 2',
  ]);
});

test('a pass of the reconciler leaves its duration, its changes and its failures', async () => {
  const metrics = make();
  metrics.startReconcile('default')({ result: 'ok', changes: { added: 3, removed: 0 } });
  metrics.startReconcile('default')({ result: 'failed' });
  metrics.startReconcile('default')({ result: 'braked' });
  const lines = await samples(metrics);
  expect(lines).toContain('vpn_api_reconcile_changes_total{server="default",kind="added"} 3');
  expect(lines).toContain('vpn_api_reconcile_failures_total{server="default"} 2');
  expect(lines.filter((line) => line.startsWith('vpn_api_reconcile_duration_seconds_count'))).toHaveLength(3);
});

test('queues are read when the metrics are, and one that fails does not take the others with it', async () => {
  const metrics = make();
  let waiting = 1;
  metrics.watchQueue('password_hashes', () => waiting);
  metrics.watchQueue('peers', async () => 7);
  metrics.watchQueue('broken', () => {
    throw new Error('database is away');
  });
  expect(await samples(metrics)).toContain('vpn_api_queue_length{queue="password_hashes"} 1');
  waiting = 5;
  const lines = (await samples(metrics)).filter((line) => line.startsWith('vpn_api_queue_length'));
  expect(lines.sort()).toEqual([
    'vpn_api_queue_length{queue="password_hashes"} 5',
    'vpn_api_queue_length{queue="peers"} 7',
  ]);
});

test('hosts are read when the metrics are; what is not known, or gone, has no sample', async () => {
  const metrics = make();
  const idle = { peers: 2, braked: false, pendingChanges: 0, oldestPendingSeconds: 0 };
  const [ams, fra] = [
    { ...idle, server: 'ams', healthy: true, lastSeenSeconds: 1.5 },
    { ...idle, server: 'fra', healthy: false, lastSeenSeconds: undefined },
  ];
  const hosts = async () => (await samples(metrics)).filter((line) => line.startsWith('vpn_api_server_'));
  metrics.watchServers(async () => [ams, fra]);
  expect(await hosts()).toHaveLength(11);
  expect(await hosts()).toEqual(
    expect.arrayContaining([
      'vpn_api_server_healthy{server="ams"} 1',
      'vpn_api_server_healthy{server="fra"} 0',
      'vpn_api_server_last_seen_timestamp_seconds{server="ams"} 1.5',
    ]),
  );
  metrics.watchServers(async () => [ams]);
  expect(await hosts()).toHaveLength(6);
  metrics.watchServers(async () => {
    throw new Error('the database is away');
  });
  expect(await hosts()).toEqual([]);
});

test('memory and the delay of the event loop are measured too', async () => {
  const { body, contentType } = await new Metrics().render();
  expect(body).toContain('nodejs_eventloop_lag_seconds');
  expect(body).toContain('process_resident_memory_bytes');
  expect(contentType).toContain('text/plain');
});
