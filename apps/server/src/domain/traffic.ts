/** Bytes in both directions as the host sees them: `rx` came from the peer, `tx` went to it. */
export interface Traffic {
  readonly rx_bytes: number;
  readonly tx_bytes: number;
}

export const NO_TRAFFIC: Traffic = { rx_bytes: 0, tx_bytes: 0 };

/**
 * What went through between two readings of a host's counters. A counter that is lower than before was set back: the host
 * restarted its interface, or took the peer off and put it on again. Both start again together, so all that they show now
 * is new. What went through between the last reading and the reset is not known to anybody.
 */
export function trafficSince(last: Traffic, seen: Traffic): Traffic {
  const isReset = seen.rx_bytes < last.rx_bytes || seen.tx_bytes < last.tx_bytes;
  if (isReset) return { rx_bytes: seen.rx_bytes, tx_bytes: seen.tx_bytes };
  return { rx_bytes: seen.rx_bytes - last.rx_bytes, tx_bytes: seen.tx_bytes - last.tx_bytes };
}

export function addTraffic(a: Traffic, b: Traffic): Traffic {
  return { rx_bytes: a.rx_bytes + b.rx_bytes, tx_bytes: a.tx_bytes + b.tx_bytes };
}

/** What counts against a quota: both directions. */
export function totalBytes({ rx_bytes, tx_bytes }: Traffic): number {
  return rx_bytes + tx_bytes;
}

/** A period as far as its traffic goes. */
export interface QuotaFacts {
  /** As sold; null is unlimited. */
  readonly traffic_limit_bytes: number | null;
  readonly used_bytes: number;
}

/**
 * Whether the traffic of a period is used up. Each period that was granted has its own count. The rest of one that
 * another tariff was put in front of is no new grant: it goes on with the count it had, so that nobody gets a quota twice
 * by switching to and fro.
 */
export function isQuotaExceeded({ traffic_limit_bytes: limit, used_bytes }: QuotaFacts): boolean {
  return limit !== null && used_bytes >= limit;
}

/** Whether the last `bytes` of a period's traffic were those that used it up. */
export function crossesQuota(period: QuotaFacts, bytes: number): boolean {
  return isQuotaExceeded(period) && !isQuotaExceeded({ ...period, used_bytes: period.used_bytes - bytes });
}

/** The UTC day of an instant, `YYYY-MM-DD`. */
export function utcDay(at: string): string {
  return at.slice(0, 10);
}
