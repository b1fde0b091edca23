import { parseUrl, Refusal } from './parse.ts';

export type ParsedDatabaseUrl =
  | { readonly engine: 'sqlite'; readonly path: string }
  | { readonly engine: 'postgres'; readonly url: string };

const FORMS = 'must be sqlite:PATH or postgresql://user:password@host:port/name';

/**
 * `sqlite:PATH`, `sqlite:///PATH` (an absolute path then has four slashes), `postgresql://…`, `postgres://…`, and the
 * same with a driver of the Python service (`postgresql+psycopg2://…`).
 * @throws Refusal
 */
export function parseDatabaseUrl(text: string): ParsedDatabaseUrl {
  const [, scheme = ''] = /^([a-z]+)(?:\+[a-z0-9_]+)?:/i.exec(text) ?? [];
  const rest = text.slice(text.indexOf(':') + 1);
  if (scheme.toLowerCase() === 'sqlite') return { engine: 'sqlite', path: sqlitePath(rest) };
  if (['postgres', 'postgresql'].includes(scheme.toLowerCase())) return { engine: 'postgres', url: postgresUrl(rest) };
  throw new Refusal(FORMS);
}

function sqlitePath(rest: string): string {
  const path = rest.startsWith('///') ? rest.slice(3) : rest;
  if (path === '' || path.startsWith('//') || path.includes('\0')) throw new Refusal(`${FORMS}; the path is missing`);
  return path;
}

function postgresUrl(rest: string): string {
  const url = parseUrl(`postgresql:${rest}`);
  if (!rest.startsWith('//') || url === undefined) throw new Refusal(FORMS);
  if (url.hostname === '' && !url.searchParams.has('host')) throw new Refusal(`${FORMS}; the host is missing`);
  if (url.pathname.length < 2) throw new Refusal(`${FORMS}; the name of the database is missing`);
  return url.href;
}
