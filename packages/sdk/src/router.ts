/** The only link to the server: types, gone after compilation. The build inlines them into the published `.d.ts`. */
export type { AppRouter, ErrorCode, EventData, EventType } from '@vpn-api/server/router';
