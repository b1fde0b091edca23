import { randomInt } from 'node:crypto';

/** How much of each scenario is played. `npm run reliability` plays the full counts, `npm test` a few of each. */
export interface Scale {
  /** Deliveries of one payment at the same time. */
  readonly identicalDeliveries: number;
  readonly payments: number;
  /** Kills of the server at random times. */
  readonly kills: number;
  /** Runs for each named point of a crash. */
  readonly killsPerPoint: number;
  readonly databaseKills: number;
  readonly histories: number;
  readonly stepsPerHistory: number;
  /** Of the same events, for each set of them. */
  readonly orders: number;
  readonly unheardPayments: number;
  readonly outgoingEvents: number;
  readonly hostDownUsers: number;
  /** Kills of one of two servers, and the peers that each host gets before each. */
  readonly writerKills: number;
  readonly peersPerHost: number;
  readonly driftPeers: number;
  /** Of those peers, changed by hand. */
  readonly drifts: number;
}

const small: Scale = {
  identicalDeliveries: 40,
  payments: 40,
  kills: 4,
  killsPerPoint: 1,
  databaseKills: 1,
  histories: 6,
  stepsPerHistory: 25,
  orders: 8,
  unheardPayments: 12,
  outgoingEvents: 20,
  hostDownUsers: 60,
  writerKills: 1,
  peersPerHost: 30,
  driftPeers: 400,
  drifts: 20,
};

const full: Scale = {
  identicalDeliveries: 1_000,
  payments: 3_000,
  kills: 200,
  killsPerPoint: 5,
  databaseKills: 10,
  histories: 200,
  stepsPerHistory: 50,
  orders: 24,
  unheardPayments: 300,
  outgoingEvents: 1_000,
  hostDownUsers: 2_000,
  writerKills: 10,
  peersPerHost: 60,
  driftPeers: 10_000,
  drifts: 500,
};

export const isFull = process.env.RELIABILITY === 'full';
export const scale: Scale = isFull ? full : small;

/** A full scenario takes minutes, a small one seconds. */
export const SCENARIO_TIMEOUT_MS = isFull ? 1_200_000 : 120_000;

/** Chosen anew for each run and printed with its result, or given by `RELIABILITY_SEED` to play one again. */
export const seed = Number(process.env.RELIABILITY_SEED ?? randomInt(2 ** 31));
