import type { ServerRow } from '@vpn-api/db';
import type { Services } from '../services.ts';

/** How we prove to a host that we may drive it. What a kind of host does not need is absent. */
export interface HostCredentials {
  /** Of a wg-easy. */
  readonly password?: string | undefined;
  /** Of a wg-easy. */
  readonly apiKey?: string | undefined;
  /** Text of an SSH private key. */
  readonly privateKey?: string | undefined;
  readonly passphrase?: string | undefined;
}

type Deps = Pick<Services, 'secretBox'>;
const column = 'servers.credentials';

/** For `servers.credentials_sealed`; null when there is nothing to keep. */
export function sealCredentials({ secretBox }: Deps, rowId: number, credentials: HostCredentials): string | null {
  const text = JSON.stringify(credentials);
  return text === '{}' ? null : secretBox.seal({ column, rowId }, text);
}

export function openCredentials({ secretBox }: Deps, server: ServerRow): HostCredentials {
  const sealed = server.credentials_sealed;
  return sealed === null ? {} : (JSON.parse(secretBox.open({ column, rowId: server.id }, sealed)) as HostCredentials);
}
