/** How often a stranger may fail to prove who they are. */
interface FailureLimit {
  /**
   * Records one failure of an address. Returns 0 while the address is within its allowance, otherwise the seconds after which one
   * more is allowed.
   */
  record(address: string): number;
}

interface FailureLimitOptions {
  /** Failures allowed at once. */
  readonly burst: number;
  /** Failures given back per second. */
  readonly perSecond: number;
  /** Addresses remembered; beyond it the one longest unseen is forgotten. */
  readonly maxAddresses: number;
  /** A clock in milliseconds that does not jump. */
  readonly nowMs: () => number;
}

/** One token bucket per address, in memory: the limit holds per control plane, which is enough to keep a guesser slow. */
export function makeFailureLimit(options: FailureLimitOptions): FailureLimit {
  const buckets = new Map<string, { tokens: number; atMs: number }>();
  return {
    record(address) {
      const key = networkOf(address);
      const nowMs = options.nowMs();
      const known = buckets.get(key);
      const refilled = known ? known.tokens + ((nowMs - known.atMs) / 1000) * options.perSecond : options.burst;
      const tokens = Math.min(options.burst, refilled);
      const allowed = tokens >= 1;
      // Deleting first keeps the map in order of last use.
      buckets.delete(key);
      buckets.set(key, { tokens: allowed ? tokens - 1 : tokens, atMs: nowMs });
      if (buckets.size > options.maxAddresses) forgetOldest(buckets);
      return allowed ? 0 : Math.max(1, Math.ceil((1 - tokens) / options.perSecond));
    },
  };
}

function forgetOldest(buckets: Map<string, unknown>): void {
  const oldest = buckets.keys().next();
  if (!oldest.done) buckets.delete(oldest.value);
}

/** Whoever has one IPv6 address has its whole /64. */
function networkOf(address: string): string {
  if (!address.includes(':') || address.includes('.')) return address;
  const [head = '', tail = ''] = address.split('::');
  const front = head.split(':').filter(Boolean);
  const back = tail.split(':').filter(Boolean);
  const groups = [...front, ...Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0'), ...back];
  return groups.slice(0, 4).join(':');
}
