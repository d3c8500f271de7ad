import { messageOf } from '../contracts/app-error.ts';

/** What was measured, call by call. A call that failed is counted, and its time is thrown away. */
export interface Samples {
  /** Times of the calls whose result was checked and right, or figures of another unit. */
  readonly values: number[];
  failures: number;
  /** What the first few failures said. */
  readonly reasons: string[];
}

export interface Summary {
  /** Calls made. */
  readonly n: number;
  readonly failures: number;
  readonly successRate: number;
  readonly min: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

const keptReasons = 3;

export function noSamples(): Samples {
  return { values: [], failures: 0, reasons: [] };
}

export function addFailure(samples: Samples, error: unknown): void {
  samples.failures += 1;
  if (samples.reasons.length < keptReasons) samples.reasons.push(messageOf(error).slice(0, 300));
}

/** Makes one measurement and files it: what `measure` returns is the value, what it throws a failure. */
export async function sample(samples: Samples, measure: () => Promise<number> | number): Promise<void> {
  try {
    samples.values.push(await measure());
  } catch (error) {
    addFailure(samples, error);
  }
}

/** Milliseconds `work` takes. */
export async function timeMs(work: () => Promise<unknown> | unknown): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

/** Milliseconds until every call ended, also those behind one that failed; throws what the first one threw. */
export async function timeAllMs(calls: readonly (() => Promise<unknown>)[]): Promise<number> {
  const startedMs = performance.now();
  const ended = await Promise.allSettled(calls.map((call) => call()));
  const tookMs = performance.now() - startedMs;
  const failed = ended.find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
  return tookMs;
}

/** Null when nothing was measured. */
export function summarise({ values, failures }: Samples): Summary | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const n = values.length + failures;
  return {
    n,
    failures,
    successRate: values.length / n,
    min: percentile(sorted, 0),
    p50: percentile(sorted, 0.5),
    p95: percentile(sorted, 0.95),
    p99: percentile(sorted, 0.99),
    max: percentile(sorted, 1),
  };
}

/** Nearest rank: always a value that was measured. */
function percentile(sorted: readonly number[], share: number): number {
  const rank = Math.max(1, Math.ceil(share * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}
