import { hash } from '@node-rs/bcrypt';
import { UsageError } from './usage-error.ts';

/** What wg-easy v14 itself uses. */
const COST = 12;
/** bcrypt looks at no more than this. */
const MAX_BYTES = 72;

/**
 * `PASSWORD_HASH` for a wg-easy v14 (v15 keeps its password in its own database), as its own `wgpw` prints it, and once
 * more for a Compose file, which takes a `$` for the start of a variable unless it is doubled.
 * @throws UsageError for an empty or too long password
 */
export async function hashPassword(password: string): Promise<string> {
  if (password === '') throw new UsageError('the password is empty');
  // Nobody can type these on the page, and bcrypt stops reading at a NUL.
  if (/[\0\r\n]/.test(password)) throw new UsageError('the password must be one line of text');
  if (Buffer.byteLength(password) > MAX_BYTES) throw new UsageError(`bcrypt reads ${MAX_BYTES} bytes and no more`);
  const hashed = await hash(password, { cost: COST });
  return [
    '# for a shell (docker run -e) and the .env file of Compose',
    `PASSWORD_HASH='${hashed}'`,
    '# for a Compose file',
    `PASSWORD_HASH=${hashed.replaceAll('$', '$$$$')}`,
    '',
  ].join('\n');
}
