import { followJobLog } from '../contracts/follow-job-log.ts';
import { needsRoot } from './capsules.ts';
import { chainIr, type Local, localNote, openLocal } from './local.ts';
import type { Bench, Measured, Row } from './row.ts';
import { addFailure, noSamples, type Samples } from './statistics.ts';

const rates = [1_000, 10_000];
const rateName = (rate: number) => `${rate.toLocaleString('en')} lines/s`;

/** How far a reader of the log is behind the command. */
export const logLatency: Row = {
  id: 'log-latency',
  title: 'line written in the capsule → seen by an SSE client',
  goals: rates.map((rate) => ({ series: rateName(rate), figure: 'p95', bound: '≤', limit: 80 })),
  obstacle: needsRoot,
  measure,
};

const fullSeconds = 20;

async function measure(bench: Bench): Promise<Measured> {
  const local = await openLocal(bench.say);
  const series = [];
  try {
    for (const rate of rates) {
      const samples = noSamples();
      await measureRate({ local, bench, samples }, rate);
      series.push({ name: rateName(rate), role: 'ours', unit: 'ms', samples } as const);
    }
  } finally {
    await local.end();
  }
  return {
    series,
    notes: [
      localNote,
      'Each line carries the time at which the capsule wrote it (clock_gettime; one kernel, so one clock); the reader compares it with its own on arrival. A line that is missing, doubled or out of order is a failure.',
    ],
  };
}

async function measureRate(
  { local, bench, samples }: { local: Local; bench: Bench; samples: Samples },
  rate: number,
): Promise<void> {
  const lines = rate * bench.count(fullSeconds);
  const build = await local.build(chainIr([`exec python3 -c '${writer}' ${rate} ${lines}`]));
  const job = await local.db.selectFrom('jobs').select('id').where('build_id', '=', build.id).executeTakeFirstOrThrow();
  const token = await local.logToken(build);
  let [next, rest] = [0, ''];
  for await (const chunk of followJobLog({ baseUrl: local.url, jobId: job.id, token, signal: bench.signal })) {
    if (chunk.stream !== 'stdout') continue;
    const seenMs = Date.now();
    const whole = (rest + chunk.content).split('\n');
    rest = whole.pop() ?? '';
    for (const line of whole) {
      const [number, writtenMs] = line.split(' ').map(Number);
      if (number === next && writtenMs !== undefined) samples.values.push(seenMs - writtenMs);
      else addFailure(samples, new Error(`line ${next} was expected, and ${JSON.stringify(line)} came`));
      next += 1;
    }
  }
  for (; next < lines; next++) addFailure(samples, new Error(`line ${next} never came`));
  await local.passed(build, bench.signal);
}

/** One line at a time, each flushed, evenly spaced. */
const writer = `
import os, sys, time
rate, lines = int(sys.argv[1]), int(sys.argv[2])
begin = time.monotonic()
for number in range(lines):
    wait = begin + number / rate - time.monotonic()
    if wait > 0: time.sleep(wait)
    os.write(1, b"%d %.3f\\n" % (number, time.time() * 1000))
`;
