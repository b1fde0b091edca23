import { type Queryable, Store, type Tx } from '@vpn-api/db';
import type { WgDriver } from '@vpn-api/wg';
import type { KyselyPlugin, RootOperationNode, TableNode } from 'kysely';
import { banner } from '../../src/banner.ts';
import { compose } from '../../src/compose.ts';
import { loadConfig } from '../../src/config/config.ts';
import type { AnswerPoint, CrashPoint } from './faults.ts';
import { remoteDriver } from './remote-host.ts';

/**
 * The program as `main.ts` starts it, on a host in another process, and with a way to die: at the n-th time that a named
 * point is reached the process kills itself, without a chance to tidy up.
 */
const [faultPoint, faultCount] = (process.env.FAULT ?? ':').split(':');
let hits = 0;

function pass(point: CrashPoint | AnswerPoint): void {
  if (point !== faultPoint) return;
  hits += 1;
  if (hits === Number(faultCount)) process.kill(process.pid, 'SIGKILL');
}

/** Which tables a statement reads or writes tells where in a settlement we are. */
class Watcher implements KyselyPlugin {
  readonly #statements = new WeakMap<object, string>();
  readonly seen = new Set<string>();

  transformQuery({ queryId, node }: { queryId: object; node: RootOperationNode }): RootOperationNode {
    this.#statements.set(queryId, describe(node));
    return node;
  }

  async transformResult<R>({ queryId, result }: { queryId: object; result: R }): Promise<R> {
    const statement = this.#statements.get(queryId) ?? '';
    this.seen.add(statement);
    const isSettling = this.seen.has('insert payment_events');
    if (statement === 'insert payment_events') pass('after_inbox_insert');
    if (isSettling && statement === 'select users') pass('after_user_lock');
    if (isSettling && statement === 'insert subscription_periods') pass('after_grant');
    return result;
  }
}

function describe(node: RootOperationNode): string {
  if (node.kind === 'InsertQueryNode') return `insert ${node.into?.table.identifier.name}`;
  if (node.kind === 'UpdateQueryNode' && node.table?.kind === 'TableNode') {
    return `update ${(node.table as TableNode).table.identifier.name}`;
  }
  if (node.kind !== 'SelectQueryNode') return node.kind;
  const [from] = node.from?.froms ?? [];
  return from?.kind === 'TableNode' ? `select ${(from as TableNode).table.identifier.name}` : node.kind;
}

const transaction = Store.prototype.transaction;
Store.prototype.transaction = async function <T>(this: Store, work: (tx: Tx) => Promise<T>): Promise<T> {
  let isSettlement = false;
  let isAnswer = false;
  const result = await transaction.call(this, async (tx) => {
    const watcher = new Watcher();
    const watched: Tx = {
      isTransaction: true,
      dialect: tx.dialect,
      get kysely(): Queryable['kysely'] {
        return tx.kysely.withPlugin(watcher as unknown as KyselyPlugin);
      },
      onCommit: (hook) => tx.onCommit(hook),
    };
    const answer = await work(watched);
    isSettlement = watcher.seen.has('insert payment_events');
    isAnswer = watcher.seen.has('update idempotency_keys');
    if (isSettlement) pass('before_commit');
    if (isAnswer) pass('before_answer');
    return answer;
  });
  if (isSettlement) pass('after_commit');
  if (isAnswer) pass('after_answer');
  return result as T;
};

function dyingDriver(driver: WgDriver): WgDriver {
  return {
    ...driver,
    apply: async (changes, signal) => {
      pass('before_host');
      const results = await driver.apply(changes, signal);
      pass('after_host');
      return results;
    },
  };
}

const { config } = loadConfig(process.env);
const hostUrl = process.env.REMOTE_HOST ?? '';
const server = await compose(config, { openDriver: () => dyingDriver(remoteDriver(hostUrl)), processMetrics: false });
const address = await server.start();
process.stdout.write(banner({ address, config, dataDir: config.dataDir }));
process.once('SIGTERM', () => void server[Symbol.asyncDispose]());
