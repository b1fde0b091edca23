import type { Config } from './config/config.ts';

interface BannerInput {
  /** Where the server listens, `http://127.0.0.1:8000`. */
  readonly address: string;
  readonly config: Config;
  readonly dataDir: string;
}

/** What somebody sees who started the server for the first time. */
export function banner({ address, config, dataDir }: BannerInput): string {
  const data = config.database.engine === 'sqlite' ? config.database.path : 'PostgreSQL';
  const lines = [
    '',
    'VPN API: payments become subscriptions, and WireGuard hosts follow.',
    '',
    `  API      ${address}`,
    `  Docs     ${address}/docs`,
    `  OpenAPI  ${address}/openapi.json`,
    `  tRPC     ${address}/trpc`,
    `  Data     ${data}  (secrets in ${dataDir}/secrets.json)`,
    '',
    `  Next     BASE_URL=${address} npm run demo    plays the whole story: register, pay, connect`,
    '',
    '  Ctrl-C stops it.',
    '',
  ];
  return `${lines.join('\n')}\n`;
}
