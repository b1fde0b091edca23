import { findServer, type ServerRow } from '@vpn-api/db';
import { FakeHost, type FakeHostOptions } from '@vpn-api/wg';
import { World, type WorldOptions } from '../reconcile/world.ts';

/** A server as the API shows it, as far as these tests look. */
export interface ServerView {
  readonly id: number;
  readonly name: string;
  readonly mode: 'observe' | 'apply';
  readonly peers: number;
  readonly pending_changes: number;
  readonly [key: string]: unknown;
}

export const SECRETS = ['page-password-canary', 'passphrase-canary', 'KEY-CANARY'] as const;

/** Several hosts behind one API, driven by an admin. */
export class HostWorld implements AsyncDisposable {
  readonly world: World;
  readonly token: string;
  #servers = 0;

  private constructor(world: World, token: string) {
    this.world = world;
    this.token = token;
  }

  static async start(options: WorldOptions): Promise<HostWorld> {
    const world = await World.start(options);
    return new HostWorld(world, (await world.app.admin()).token);
  }

  get app() {
    return this.world.app;
  }

  call<T = Record<string, unknown>>(method: string, path: string, body?: unknown) {
    return this.app.rest<T>(method, path, { token: this.token, ...(body === undefined ? {} : { body }) });
  }

  /** As `call`, for what must go well. */
  async ok<T = Record<string, unknown>>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.call<T>(method, path, body);
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    return answer.body;
  }

  /** A wg-easy that is a fake host of its own, which makes keys as wg-easy does. */
  async addReported(body: Record<string, unknown> = {}): Promise<{ server: ServerView; host: FakeHost }> {
    const credentials = { password: SECRETS[0] };
    const wgEasy = { driver: 'wg-easy', address: 'https://wg.example.com', credentials };
    return this.add({ ...wgEasy, ...body }, { keys: 'reported', suspend: 'disable', pool: '10.42.0.0/24' });
  }

  /** A host over SSH that is a fake of its own. In `observe` mode, as every new one. */
  async add(
    body: Record<string, unknown> = {},
    options: FakeHostOptions = {},
  ): Promise<{ server: ServerView; host: FakeHost }> {
    this.#servers += 1;
    const host = new FakeHost(options);
    const name = `host${this.#servers}`;
    const credentials = { private_key: SECRETS[2], passphrase: SECRETS[1] };
    const ssh = {
      driver: 'ssh',
      address: `vpn@${name}.example.com`,
      credentials,
      endpoint: `${name}.example.com:51820`,
    };
    // Made before its loop first looks for a driver: the next id is known.
    const known = this.world.hosts;
    const settings = { name, pool_v4: `10.${20 + this.#servers}.0.0/24`, ...ssh, ...body };
    const next = (await this.ok<ServerView[]>('GET', '/servers')).at(-1)?.id ?? 0;
    for (let id = next + 1; id < next + 10; id += 1) if (!known.has(id)) known.set(id, host);
    const server = await this.ok<ServerView>('POST', '/servers', settings);
    for (const [id, other] of known) if (other === host && id !== server.id) known.delete(id);
    await this.app.settled();
    return { server: await this.get(server.id), host };
  }

  /** As `add`, with its empty plan applied. */
  async live(body: Record<string, unknown> = {}, options: FakeHostOptions = {}) {
    const { server, host } = await this.add(body, options);
    await this.ok('POST', `/servers/${server.id}/apply`, {});
    await this.app.settled();
    return { server: await this.get(server.id), host };
  }

  get(id: number): Promise<ServerView> {
    return this.ok<ServerView>('GET', `/servers/${id}`);
  }

  async row(id: number): Promise<ServerRow> {
    const row = await findServer(this.world.store, id);
    if (row === undefined) throw new Error(`no server ${id}`);
    return row;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]();
  }
}
