import { getSetting, setSettingOnce } from '@vpn-api/db';
import type { Services } from '../services.ts';

const SETTING = 'encryption_probe';
const CONTEXT = { column: 'settings.encryption_probe', rowId: 0 } as const;
const PROBE = 'vpn-api';

/**
 * Proves at start that `CONFIG_ENCRYPTION_KEY` opens what this database holds. Found out later, it would be by a customer
 * whose config cannot be shown.
 * @throws Error with a sentence for the operator
 */
export async function checkEncryptionKey({ store, secretBox }: Pick<Services, 'store' | 'secretBox'>): Promise<void> {
  await setSettingOnce(store, SETTING, secretBox.seal(CONTEXT, PROBE));
  const sealed = await getSetting(store, SETTING);
  try {
    if (sealed !== undefined && secretBox.open(CONTEXT, sealed) === PROBE) return;
  } catch (cause) {
    throw new WrongEncryptionKeyError(cause);
  }
  throw new WrongEncryptionKeyError(undefined);
}

export class WrongEncryptionKeyError extends Error {
  override readonly name = 'WrongEncryptionKeyError';

  constructor(cause: unknown) {
    super('CONFIG_ENCRYPTION_KEY does not open what is stored in this database: set the key it was written with', {
      cause,
    });
  }
}
