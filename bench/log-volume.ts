import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { listJobs } from '../cli/build-requests.ts';
import { readLog } from '../cli/follow-build.ts';
import { connectTo, type OpenServer } from '../cli/open-server.ts';
import { needsRoot } from './capsules.ts';
import { chainIr, makePipeline, startBuild } from './local.ts';
import { processTree, sumMib } from './process-memory.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, sample } from './statistics.ts';
import { openWarmCli } from './warm-cli.ts';

const speedName = 'written, stored and read by an SSE client';
const [nodeName, postgresName, sharedName] = ['control plane and host', 'PostgreSQL', 'its shared buffers'];
const largestName = 'its largest process';
const parts = [sharedName, largestName];
const [first, last] = [': first quarter', ': last quarter'];

/** Whether much output is all there, and what it does to memory. */
export const logVolume: Row = {
  id: 'log-volume',
  title: '1 GB of output, seen by an SSE client: no loss, flat memory',
  goals: [
    { series: speedName, figure: 'ok', bound: '≥', limit: 1 },
    { series: `${nodeName}${last}`, figure: 'p50', bound: '≤', limit: 1.1, ofP50: `${nodeName}${first}` },
    {
      ...{ series: `${postgresName}${last}`, figure: 'p50', bound: '≤', limit: 1.1, ofP50: `${postgresName}${first}` },
      whenMissed: (p50Of) =>
        `its largest process has ${p50Of(`${largestName}${first}`)} in the first quarter and ${p50Of(`${largestName}${last}`)} in the last: a connection that once stored much output keeps what it needed for that, and more of the ten had done so by then`,
    },
  ],
  obstacle: needsRoot,
  measure,
};

/** A job keeps 64 MiB of output, so a gigabyte is written by many. */
const jobs = 18;
const warmUps = 4;
const lineBytes = 80;
const linesPerJob = Math.floor((60 * 2 ** 20) / lineBytes);
const mib = 2 ** 20;
const sampleEveryMs = 250;

/** MiB by the name of the series. */
type Look = Readonly<Record<string, number>>;

async function measure(bench: Bench): Promise<Measured> {
  const count = bench.isQuick ? 2 : jobs;
  const expected = expectedDigest();
  const speed = noSamples();
  const looks: Look[] = [];
  const cli = await openWarmCli(bench.say);
  try {
    const up = await cli.up();
    const server = connectTo(up.url, up.token);
    await makePipeline(server);
    const flood = () => floodOnce(server, expected, bench.signal);
    // A process that just started has yet to grow to its size, and each of PostgreSQL's connections has one.
    for (let job = 0; job < warmUps; job++) await flood();
    const over = new AbortController();
    const watching = watchMemory(up.pid, looks, over.signal);
    for (let job = 0; job < count && !bench.signal.aborted; job++) {
      await sample(speed, flood);
    }
    over.abort();
    await watching;
    await up.end();
  } finally {
    await cli.end();
  }
  return {
    series: [
      { name: speedName, role: 'ours', unit: 'MiB/s', samples: speed },
      ...[nodeName, postgresName, ...parts].flatMap((name) => quarters(name, looks)),
    ],
    notes: [
      `\`caisson up\` in a process of its own; after ${warmUps} jobs to warm up, ${count} jobs, one after the other, each write ${((linesPerJob * lineBytes) / mib).toFixed(0)} MiB in numbered lines as fast as they can (a job’s output is kept up to 64 MiB). The digest of what the reader got has to be that of what was written. The speed is that of a whole build: capsule, command, storing, reading.`,
      `Memory is the proportional set size, looked at every ${sampleEveryMs} ms; the first and the last quarter of these looks are compared. PostgreSQL’s shared buffers, a pool of fixed size that fills with whatever is used, are counted apart.`,
    ],
  };
}

function quarters(name: string, looks: readonly Look[]): Measured['series'] {
  const values = looks.map((look) => look[name] ?? Number.NaN);
  const quarter = Math.ceil(values.length / 4);
  const ends = { [first]: values.slice(0, quarter), [last]: values.slice(-quarter) };
  return Object.entries(ends).map(([when, part]) => ({
    ...{ name: `${name}${when}`, role: parts.includes(name) ? 'part' : 'ours', unit: 'MiB' },
    samples: { ...noSamples(), values: part },
  }));
}

/** MiB per second of one job whose whole output arrived. */
async function floodOnce(server: OpenServer, expected: string, signal: AbortSignal): Promise<number> {
  const startedMs = performance.now();
  const ref = await startBuild(server, chainIr([`exec python3 -c '${writer}'`]));
  const [job] = (await listJobs(server, ref)).data;
  if (job === undefined) throw new Error('the build has no job');
  const digest = createHash('sha256');
  let bytes = 0;
  for await (const chunk of readLog(server, { ref, jobId: job.id, signal })) {
    if (chunk.stream !== 'stdout') continue;
    digest.update(chunk.content);
    bytes += chunk.content.length;
  }
  const seconds = (performance.now() - startedMs) / 1_000;
  if (bytes !== linesPerJob * lineBytes) throw new Error(`${bytes} of ${linesPerJob * lineBytes} bytes came`);
  if (digest.digest('hex') !== expected) throw new Error('other bytes came than were written');
  return bytes / mib / seconds;
}

function expectedDigest(): string {
  const digest = createHash('sha256');
  for (let line = 0; line < linesPerJob; line++) digest.update(`${String(line).padStart(lineBytes - 1, '0')}\n`);
  return digest.digest('hex');
}

const writer = `
import sys
for start in range(0, ${linesPerJob}, 1000):
    stop = min(start + 1000, ${linesPerJob})
    sys.stdout.write("".join("%0${lineBytes - 1}d\\n" % line for line in range(start, stop)))
`;

async function watchMemory(pid: number, looks: Look[], over: AbortSignal): Promise<void> {
  while (!over.aborted) {
    const look = await lookAt(pid).catch(() => null);
    // A process that just ended makes one look worthless, not the row.
    if (look !== null) looks.push(look);
    await delay(sampleEveryMs, null, { signal: over }).catch(() => {});
  }
}

async function lookAt(pid: number): Promise<Look> {
  const processes = await processTree(pid);
  const postgres = processes.filter(({ name }) => name === 'postgres');
  const ownOf = async (some: typeof postgres) => (await sumMib(some)) - (await sumMib(some, 'Pss_Shmem'));
  const [node, own, shared, each] = await Promise.all([
    sumMib(processes.filter(({ name }) => name !== 'postgres')),
    ownOf(postgres),
    sumMib(postgres, 'Pss_Shmem'),
    Promise.all(postgres.map((process) => ownOf([process]))),
  ]);
  return { [nodeName]: node, [postgresName]: own, [sharedName]: shared, [largestName]: Math.max(...each) };
}
