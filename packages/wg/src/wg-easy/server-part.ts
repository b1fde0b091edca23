import { parseEndpoint, printEndpoint } from '../client-config.ts';
import type { InterfaceDescription } from '../driver.ts';
import { parsePublicKey } from '../keys.ts';

/**
 * What the configuration of a client says about the server. Reads only that: the rest may be of any kind.
 * undefined when it says no key.
 */
export function readServerPart(config: string): InterfaceDescription | undefined {
  const lines = config.split(/\r?\n/);
  const peer = lines.slice(lines.findIndex((line) => line.trim() === '[Peer]') + 1);
  const value = (key: string) => {
    const found = peer.find((line) => line.startsWith(`${key} = `));
    return found?.slice(key.length + 3).trim() ?? '';
  };
  const publicKey = attempt(() => parsePublicKey(value('PublicKey')));
  if (publicKey === undefined) return undefined;
  const endpoint = attempt(() => printEndpoint(parseEndpoint(value('Endpoint'))));
  return endpoint === undefined ? { publicKey } : { publicKey, endpoint };
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
