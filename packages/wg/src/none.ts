import {
  type ChangeResult,
  type InterfaceDescription,
  type ObservedPeer,
  type PeerChange,
  throwIfAborted,
  type WgDriver,
} from './driver.ts';
import { MemoryHost } from './memory-host.ts';

/**
 * No host at all: every change counts as made, and is forgotten at the end of the process. For trying the system out
 * and for servers that exist only on paper.
 */
export class NoneDriver implements WgDriver {
  readonly kind = 'none';
  readonly keys = 'given';
  readonly suspend = 'disable';
  readonly #host = new MemoryHost({ keys: 'given', suspend: 'disable' });
  readonly #description: InterfaceDescription;

  constructor(description: InterfaceDescription) {
    this.#description = description;
  }

  async describe(signal: AbortSignal): Promise<InterfaceDescription> {
    throwIfAborted(signal);
    return this.#description;
  }

  async list(signal: AbortSignal): Promise<ObservedPeer[]> {
    throwIfAborted(signal);
    return this.#host.list();
  }

  async apply(changes: readonly PeerChange[], signal: AbortSignal): Promise<ChangeResult[]> {
    throwIfAborted(signal);
    return changes.map((change) => this.#host.change(change));
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
