import type { ServerRow } from '@vpn-api/db';
import { DriverError, generateKeyPair, NoneDriver, openLocalDriver, type PublicKey, type WgDriver } from '@vpn-api/wg';

/** Opens the driver that a server's row asks for. Nothing is connected before the first call. */
export type OpenDriver = (server: ServerRow) => WgDriver;

/** @throws DriverError `refused` for a kind of host that this version cannot drive */
export const openDriver: OpenDriver = (server) => {
  switch (server.driver) {
    case 'local':
      return openLocalDriver({ interface: server.interface });
    case 'none':
      return new NoneDriver({ publicKey: (server.public_key as PublicKey | null) ?? generateKeyPair().publicKey });
    default:
      throw new DriverError('refused', `this version drives no ${server.driver} hosts`);
  }
};

interface Pooled {
  readonly driver: WgDriver;
  /** The columns it was opened with. */
  readonly opened: string;
}

/**
 * One open driver for each server. A row that names another host gets a new one, and the old one is closed; the memory
 * of a `none` driver lasts as long as the pool, and after a restart everything is simply set again.
 */
export class DriverPool implements AsyncDisposable {
  readonly #open: OpenDriver;
  readonly #drivers = new Map<number, Pooled>();
  readonly #closing = new Set<Promise<void>>();

  constructor(open: OpenDriver) {
    this.#open = open;
  }

  driverFor(server: ServerRow): WgDriver {
    const opened = JSON.stringify([server.driver, server.interface]);
    const known = this.#drivers.get(server.id);
    if (known?.opened === opened) return known.driver;
    const driver = this.#open(server);
    if (known !== undefined) this.#close(known.driver);
    this.#drivers.set(server.id, { driver, opened });
    return driver;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { driver } of this.#drivers.values()) this.#close(driver);
    this.#drivers.clear();
    await Promise.all(this.#closing);
  }

  #close(driver: WgDriver): void {
    const closing = closeQuietly(driver);
    this.#closing.add(closing);
    void closing.then(() => this.#closing.delete(closing));
  }
}

/** A driver that cannot be closed is of no use to anybody, and nobody is left to be told. */
async function closeQuietly(driver: WgDriver): Promise<void> {
  try {
    await driver[Symbol.asyncDispose]();
  } catch {}
}
