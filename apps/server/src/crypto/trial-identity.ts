import { createHmac, hkdfSync } from 'node:crypto';

/**
 * What stays of a Telegram id when its account is removed, to know it again when it asks for a second trial. Telegram ids
 * are few enough to try all of them, hence a key; it is derived from `SECRET_KEY`, so with another one old claims of
 * removed accounts are forgotten, while those of accounts that still exist hold by the user's id.
 */
export function trialIdentity(secretKey: string, telegramId: number): string {
  const key = hkdfSync('sha256', secretKey, '', 'vpn-api trial identity v1', 32);
  return createHmac('sha256', Buffer.from(key)).update(`telegram:${telegramId}`).digest('hex');
}
