/** A signed-in session as it is stored. Instants are milliseconds since 1970, by this machine's clock. */
export interface SessionTokens {
  readonly accessToken: string;
  readonly accessExpiresAt: number;
  /** Single use: the server replaces it at every refresh. */
  readonly refreshToken: string;
  readonly refreshExpiresAt: number;
}

/** Where tokens are kept. Each method may be asynchronous. */
export interface TokenStorage {
  read(): SessionTokens | undefined | Promise<SessionTokens | undefined>;
  write(tokens: SessionTokens): void | Promise<void>;
  clear(): void | Promise<void>;
  /**
   * Runs `work` while nobody else who shares this storage (another tab, another process) runs theirs. Without it two
   * tabs may spend the same single-use refresh token, and one of them is signed out.
   */
  withLock?<T>(work: () => Promise<T>): Promise<T>;
}

/** Forgets everything when the process ends or the page is closed. */
export function memoryStorage(initial?: SessionTokens): TokenStorage {
  let tokens = initial;
  return {
    read: () => tokens,
    write: (next) => {
      tokens = next;
    },
    clear: () => {
      tokens = undefined;
    },
  };
}

/**
 * Keeps tokens in `localStorage` or `sessionStorage`; tabs take turns by the Web Locks API where the browser has it.
 * Any script of the page can read them there: allow no foreign scripts.
 */
export function webStorage(
  storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>,
  key = 'vpn-api.session',
): TokenStorage {
  return {
    read: () => parseTokens(storage.getItem(key)),
    write: (tokens) => storage.setItem(key, JSON.stringify(tokens)),
    clear: () => storage.removeItem(key),
    withLock: (work) => withWebLock(key, work),
  };
}

async function withWebLock<T>(name: string, work: () => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks;
  return locks === undefined ? work() : locks.request(name, work);
}

/** What another version, another program or a person wrote there counts as signed out. */
function parseTokens(text: string | null): SessionTokens | undefined {
  if (text === null) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isTokens(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isTokens(value: unknown): value is SessionTokens {
  if (typeof value !== 'object' || value === null) return false;
  const { accessToken, accessExpiresAt, refreshToken, refreshExpiresAt } = value as Record<string, unknown>;
  const texts = typeof accessToken === 'string' && typeof refreshToken === 'string';
  return texts && typeof accessExpiresAt === 'number' && typeof refreshExpiresAt === 'number';
}
