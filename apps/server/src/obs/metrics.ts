import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** Answers a procedure, a request or a pass that was started. */
type Stop<T> = (outcome: T) => void;

export interface HttpRequestSample {
  readonly method: string;
  /** The route's pattern, never the path: ids in a label would make one series a row. Undefined when nothing matched. */
  readonly route: string | undefined;
  readonly status: number;
  readonly seconds: number;
}

export interface ReconcileOutcome {
  readonly result: 'ok' | 'failed' | 'braked';
  /** Changes made on the host by kind: `set`, `suspend`, `remove`. */
  readonly changes?: Readonly<Record<string, number>>;
  /** Those of them that repaired what was right before. */
  readonly drift?: Readonly<Record<string, number>>;
}

export interface ProviderCallSample {
  /** A configured one. */
  readonly provider: string;
  readonly call: 'checkout' | 'poll' | 'refund' | 'question';
  /** What came of it, or why it failed: `refused`, `unavailable`, `unknown`. */
  readonly result: string;
}

/** One host as its row says it is. */
export interface ServerSample {
  readonly server: string;
  readonly peers: number;
  readonly healthy: boolean;
  /** A plan waits for a person. */
  readonly braked: boolean;
  readonly pendingChanges: number;
  readonly oldestPendingSeconds: number;
  /** Of the last compare that came to its end, since 1970; undefined before the first. */
  readonly lastSeenSeconds: number | undefined;
}

type ServerGauge = Exclude<keyof ServerSample, 'server'>;

const SERVER_GAUGES: Readonly<Record<ServerGauge, { readonly name: string; readonly help: string }>> = {
  peers: { name: 'vpn_api_server_peers', help: 'Live peers of a server' },
  healthy: {
    name: 'vpn_api_server_healthy',
    help: '1 while the host answers, 0 before it did and after three failures',
  },
  braked: { name: 'vpn_api_server_braked', help: '1 while a plan waits for a person' },
  pendingChanges: {
    name: 'vpn_api_server_pending_changes',
    help: 'Changes the host still had to make after a compare',
  },
  oldestPendingSeconds: { name: 'vpn_api_server_oldest_pending_seconds', help: 'How long a change waits for the host' },
  lastSeenSeconds: { name: 'vpn_api_server_last_seen_timestamp_seconds', help: 'When a compare last came to its end' },
};

export interface MetricsOptions {
  /** Process metrics of Node (memory, collections, event-loop delay). Tests that make many servers leave them out. */
  readonly processMetrics?: boolean;
}

/** A webhook answers in milliseconds, a login in a quarter of a second, a wg-easy in seconds. */
const SECONDS_BUCKETS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** What one server measures. Each instance has a registry of its own, so that two servers in one process do not mix. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #http: Histogram<'method' | 'route' | 'status'>;
  readonly #procedures: Counter<'procedure' | 'outcome'>;
  readonly #procedureSeconds: Histogram<'procedure'>;
  readonly #webhooks: Counter<'provider' | 'outcome'>;
  readonly #providerCalls: Counter<'provider' | 'call' | 'result'>;
  readonly #deliveries: Counter<'outcome'>;
  readonly #reconcileSeconds: Histogram<'server' | 'result'>;
  readonly #reconcileChanges: Counter<'server' | 'kind'>;
  readonly #reconcileDrift: Counter<'server' | 'kind'>;
  readonly #reconcileFailures: Counter<'server'>;
  readonly #queues: Gauge<'queue'>;
  readonly #queueReaders = new Map<string, () => number | Promise<number>>();
  readonly #servers: ReadonlyMap<ServerGauge, Gauge<'server'>>;
  #readServers: () => Promise<readonly ServerSample[]> = async () => [];

  constructor({ processMetrics = true }: MetricsOptions = {}) {
    const registers = [this.#registry];
    const buckets = SECONDS_BUCKETS;
    this.#http = new Histogram({
      name: 'vpn_api_http_request_duration_seconds',
      help: 'HTTP requests by route pattern',
      labelNames: ['method', 'route', 'status'],
      buckets,
      registers,
    });
    this.#procedures = new Counter({
      name: 'vpn_api_procedure_calls_total',
      help: 'Procedure calls of both transports; outcome is ok or an error code',
      labelNames: ['procedure', 'outcome'],
      registers,
    });
    this.#procedureSeconds = new Histogram({
      name: 'vpn_api_procedure_duration_seconds',
      help: 'Duration of procedure calls',
      labelNames: ['procedure'],
      buckets,
      registers,
    });
    this.#webhooks = new Counter({
      name: 'vpn_api_payment_webhooks_total',
      help: 'Payment deliveries by what became of them',
      labelNames: ['provider', 'outcome'],
      registers,
    });
    this.#providerCalls = new Counter({
      name: 'vpn_api_payment_provider_calls_total',
      help: 'Calls to payment providers by what came of them',
      labelNames: ['provider', 'call', 'result'],
      registers,
    });
    this.#deliveries = new Counter({
      name: 'vpn_api_webhook_deliveries_total',
      help: 'Attempts to deliver an outgoing event: delivered, failed, gone, or dead when it was given up',
      labelNames: ['outcome'],
      registers,
    });
    this.#reconcileSeconds = new Histogram({
      name: 'vpn_api_reconcile_duration_seconds',
      help: 'Passes of the reconciler over one host',
      labelNames: ['server', 'result'],
      buckets,
      registers,
    });
    this.#reconcileChanges = new Counter({
      name: 'vpn_api_reconcile_changes_total',
      help: 'Changes made on hosts',
      labelNames: ['server', 'kind'],
      registers,
    });
    this.#reconcileDrift = new Counter({
      name: 'vpn_api_reconcile_drift_total',
      help: 'Changes that repaired what somebody else had changed on a host',
      labelNames: ['server', 'kind'],
      registers,
    });
    this.#reconcileFailures = new Counter({
      name: 'vpn_api_reconcile_failures_total',
      help: 'Passes that ended in an error or at the brake',
      labelNames: ['server'],
      registers,
    });
    this.#queues = new Gauge({
      name: 'vpn_api_queue_length',
      help: 'Work that waits',
      labelNames: ['queue'],
      registers,
      collect: () => this.#readQueues(),
    });
    this.#servers = new Map(
      Object.entries(SERVER_GAUGES).map(([key, names]) => [
        key as ServerGauge,
        new Gauge({ ...names, labelNames: ['server'], registers }),
      ]),
    );
    if (processMetrics) collectDefaultMetrics({ register: this.#registry });
  }

  /** Measures a procedure call; the returned function takes `ok` or the error code. */
  startProcedure(procedure: string): Stop<string> {
    const stop = this.#procedureSeconds.startTimer({ procedure });
    return (outcome) => {
      stop();
      this.#procedures.inc({ procedure, outcome });
    };
  }

  observeRequest({ method, route = 'unknown', status, seconds }: HttpRequestSample): void {
    this.#http.observe({ method, route, status }, seconds);
  }

  /** `provider` must be a configured one: names out of a path would let anybody make series. */
  countWebhook(provider: string, outcome: string): void {
    this.#webhooks.inc({ provider, outcome });
  }

  countProviderCall({ provider, call, result }: ProviderCallSample): void {
    this.#providerCalls.inc({ provider, call, result });
  }

  countDelivery(outcome: 'delivered' | 'failed' | 'gone' | 'dead'): void {
    this.#deliveries.inc({ outcome });
  }

  /** Measures one pass over a host. */
  startReconcile(server: string): Stop<ReconcileOutcome> {
    const stop = this.#reconcileSeconds.startTimer({ server });
    return ({ result, changes = {}, drift = {} }) => {
      stop({ result });
      if (result !== 'ok') this.#reconcileFailures.inc({ server });
      for (const [kind, count] of Object.entries(changes)) this.#reconcileChanges.inc({ server, kind }, count);
      for (const [kind, count] of Object.entries(drift)) this.#reconcileDrift.inc({ server, kind }, count);
    };
  }

  /** Registers a queue whose length is read whenever the metrics are. A reader that fails leaves the queue out. */
  watchQueue(queue: string, read: () => number | Promise<number>): void {
    this.#queueReaders.set(queue, read);
  }

  /** Hosts are read whenever the metrics are. While they cannot be read, nothing is said of them. */
  watchServers(read: () => Promise<readonly ServerSample[]>): void {
    this.#readServers = read;
  }

  /** The text for `/metrics` and its content type. */
  async render(): Promise<{ readonly contentType: string; readonly body: string }> {
    await this.#setServers();
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() };
  }

  async #readQueues(): Promise<void> {
    this.#queues.reset();
    const readings = [...this.#queueReaders].map(async ([queue, read]) => this.#queues.set({ queue }, await read()));
    await Promise.allSettled(readings);
  }

  async #setServers(): Promise<void> {
    const samples = await this.#readServers().catch(() => []);
    for (const [key, gauge] of this.#servers) {
      gauge.reset();
      for (const { server, [key]: value } of samples) if (value !== undefined) gauge.set({ server }, Number(value));
    }
  }
}
