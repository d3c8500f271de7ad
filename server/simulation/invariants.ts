import { isFinishedJobState, type JobState } from '@caisson/core/job';
import type { BuildEntry, Changes, JobEntry, LeaseEntry, Ledger, LogEntry } from './ledger.ts';
import { countRefusal, refusalsOf } from './ledger.ts';
import type { HostTraits, Scenario } from './scenario.ts';
import type { SimulatedHost } from './simulated-host.ts';
import type { RunRecord, World } from './world.ts';

const clockErrorMs = 0.01;
const mostAttempts = 3;

/** What a job may become next. */
const nextStates: Record<JobState, readonly JobState[]> = {
  pending: ['scheduled', 'skipped', 'canceled', 'timed_out'],
  scheduled: ['assigned', 'skipped', 'canceled', 'timed_out', 'failed'],
  assigned: ['running', 'scheduled', 'failed', 'passed', 'timed_out', 'canceling', 'timing_out'],
  running: ['scheduled', 'passed', 'failed', 'timed_out', 'canceling', 'timing_out'],
  canceling: ['canceled'],
  timing_out: ['timed_out'],
  ...{ passed: [], failed: [], skipped: [], canceled: [], timed_out: [] },
};

/** Looks at what one commit has changed, before it is entered into the ledger. */
export function checkChanges(world: World, changes: Changes, who: string): void {
  tell(world, changes, who);
  const after = merged(world.ledger, changes);
  for (const build of changes.builds) checkBuild(world, after, build);
  for (const job of changes.jobs) checkJob(world, after, job);
  for (const lease of changes.leases) checkLease(world, after, lease);
  for (const log of changes.logs) checkLog(world, after, log);
  checkCounts(world, after, changes);
  checkEvents(world, after, changes);
  if (changes.leases.length > 0) checkCapacity(world, after);
  for (const lease of changes.leases) checkMemory(world, after, lease);
  checkLayers(world, after, changes);
}

type After = Ledger;

function merged(before: Ledger, changes: Changes): After {
  const over = <T>(known: Map<string, T>, rows: readonly T[], keyOf: (row: T) => string) => {
    return rows.length === 0 ? known : new Map([...known, ...rows.map((row) => [keyOf(row), row] as const)]);
  };
  const needs = changes.needs.length === 0 ? before.needs : new Map(before.needs);
  const refused = refusalsOf(changes);
  const refusals = refused.length === 0 ? before.refusals : new Map(before.refusals);
  for (const { subject } of refused) countRefusal(refusals, subject);
  for (const { job, needed } of changes.needs) needs.set(job, [...(needs.get(job) ?? []), needed]);
  return {
    ...{ needs, layers: changes.layers },
    builds: over(before.builds, changes.builds, ({ id }) => id),
    jobs: over(before.jobs, changes.jobs, ({ id }) => id),
    leases: over(before.leases, changes.leases, ({ id }) => id),
    logs: over(before.logs, changes.logs, ({ job }) => job),
    told: over(before.told, changes.events, ({ subject }) => subject),
    refusals,
  };
}

function checkBuild(world: World, after: After, build: BuildEntry): void {
  const before = world.ledger.builds.get(build.id);
  if (before !== undefined && before.finished !== null && !isSame(before, build)) {
    world.fail('final', `${build.name} was ${before.status} and changed: ${differenceOf(before, build)}`);
  }
  if (build.finished === null) return;
  const jobs = [...after.jobs.values()].filter((job) => job.build === build.id);
  const open = jobs.filter(({ finished }) => finished === null);
  if (open.length > 0)
    world.fail('I1', `${build.name} is ${build.status}, but ${open.map(({ key }) => key).join(', ')} goes on`);
  const hasFailed = jobs.some(({ kind, status }) => kind === 'step' && (status === 'failed' || status === 'timed_out'));
  if (build.status === 'passed' && hasFailed) world.fail('final', `${build.name} passed with a failed job`);
}

function checkJob(world: World, after: After, job: JobEntry): void {
  const before = world.ledger.jobs.get(job.id);
  if (before !== undefined && isFinishedJobState(before.status) && !isSame(before, job)) {
    world.fail('final', `${job.key} was ${before.status} and changed: ${differenceOf(before, job)}`);
  }
  const leases = leasesOf(after, job.id);
  const held = leases.filter(({ status }) => status === 'held');
  if (held.length > 1) world.fail('I6', `${job.key} is held ${held.length} times`);
  if ((held[0]?.id ?? null) !== job.lease)
    world.fail('I2', `${job.key} is ${job.status}, its lease is not the one that is held`);
  const refusals = after.refusals.get(job.id) ?? 0;
  if (leases.length - refusals !== job.attempt)
    world.fail('I2', `${job.key} is at attempt ${job.attempt} with ${leases.length} leases, ${refusals} given back`);
  if (job.attempt > mostAttempts) world.fail('I2', `${job.key} is at attempt ${job.attempt}`);
  if (before?.status !== job.status) checkReason(world, after, { job, last: leases.at(-1) });
}

/** Whether what the graph and the hosts say makes this state right. */
function checkReason(world: World, after: After, { job, last }: { job: JobEntry; last: LeaseEntry | undefined }): void {
  const needed = (after.needs.get(job.id) ?? []).flatMap((id) => after.jobs.get(id) ?? []);
  if (['scheduled', 'assigned'].includes(job.status) && needed.some(({ status }) => status !== 'passed')) {
    world.fail('I2', `${job.key} is ${job.status} before what it needs has passed`);
  }
  const told = after.told.get(job.id);
  if (told?.cause === 'refused' && last !== undefined && world.records.has(last.id)) {
    world.fail('I4', `${job.key} is given back, and fence ${last.fence} was taken by a host`);
  }
  if (told?.cause === 'finished' && last !== undefined) checkResult(world, job, world.records.get(last.id));
  if (job.status === 'passed' && (told?.cause !== 'finished' || last?.status !== 'done')) {
    world.fail('I2', `${job.key} passed under no lease`);
  }
}

function checkResult(world: World, job: JobEntry, record: RunRecord | undefined): void {
  const message = record?.messages.at(-1);
  if (message?.kind !== 'finished') {
    world.fail('I2', `${job.key} is ${job.status}, and its host has not said so`);
    return;
  }
  const { result } = message;
  const isPass = result.outcome === 'exited' && result.exitCode === 0 && result.signal === null;
  if (job.status === 'passed' && !isPass) world.fail('I2', `${job.key} passed, and its run ended as ${result.outcome}`);
  if (job.status === 'failed' && isPass) world.fail('I2', `${job.key} failed, and its run passed`);
  if (job.exit !== null && (result.outcome !== 'exited' || result.exitCode !== job.exit)) {
    world.fail('I2', `${job.key} has the exit code ${job.exit}, which is not its run's`);
  }
}

function checkLease(world: World, after: After, lease: LeaseEntry): void {
  const before = world.ledger.leases.get(lease.id);
  const { nowMs } = world.timeline;
  const what = `fence ${lease.fence}`;
  if (before !== undefined && before.status !== 'held' && !isSame(before, lease)) {
    world.fail('I2', `${what} was ${before.status} and changed: ${differenceOf(before, lease)}`);
  }
  if (before !== undefined && lease.seq < before.seq) world.fail('I4', `${what} goes back to message ${lease.seq}`);
  const written = world.records.get(lease.id)?.messages.length ?? 0;
  if (lease.seq > written) world.fail('I4', `${what} is at message ${lease.seq} of ${written}`);
  const isHeld = lease.status === 'held';
  if (isHeld !== (lease.released === null) || isHeld !== (lease.capsuleEnded === null)) {
    world.fail('I6', `${what} is ${lease.status}, its capsule ${lease.capsuleStatus}`);
  }
  const isExact = (ms: number | null) => ms === null || Math.abs(ms - nowMs) <= clockErrorMs + 1;
  if (before === undefined && !isExact(lease.acquired)) world.fail('I6', `${what} was not acquired when it says`);
  if (before?.status === 'held' && !isExact(lease.released)) world.fail('I6', `${what} was not released when it says`);
  if (before?.status === 'held' && lease.released !== lease.capsuleEnded)
    world.fail('I6', `${what} and its capsule end apart`);
  const earlier = leasesOf(after, lease.job)
    .filter(({ fence }) => fence < lease.fence)
    .at(-1);
  // The end is kept to the millisecond.
  if (earlier !== undefined && (earlier.released ?? Number.POSITIVE_INFINITY) > lease.acquired + 1) {
    world.fail('I6', `${what} overlaps fence ${earlier.fence}`);
  }
  if (before?.status === 'held' && lease.status === 'lost') world.stats.leaseLosses += 1;
}

/** Every output message that was accepted is in the log, once. */
function checkLog(world: World, after: After, log: LogEntry): void {
  const what = `the log of ${after.jobs.get(log.job)?.key}`;
  if (log.last !== log.chunks) world.fail('I4', `${what} has ${log.chunks} parts up to ${log.last}`);
  const accepted = leasesOf(after, log.job).flatMap((lease) => acceptedOutput(world, lease)).length;
  if (log.output !== accepted) world.fail('I4', `${what} has ${log.output} parts of ${accepted} that were accepted`);
}

export function acceptedOutput({ records }: World, { id, seq }: LeaseEntry): readonly Uint8Array[] {
  const messages = records.get(id)?.messages ?? [];
  return messages.flatMap((message) => (message.kind === 'output' && message.seq <= seq ? [message.bytes] : []));
}

function checkCounts(world: World, after: After, { counts }: Changes): void {
  for (const what of ['builds', 'jobs', 'leases'] as const) {
    if (counts[what] !== after[what].size) world.fail('I1', `${counts[what]} of ${after[what].size} ${what} are left`);
  }
}

/** The log of events tells how each job came from state to state, and ends with what the rows say. */
function checkEvents(world: World, after: After, changes: Changes): void {
  const states = new Map<string, string>();
  for (const { subject, kind } of changes.events) {
    const job = after.jobs.get(subject);
    if (job === undefined) continue;
    const from = states.get(subject) ?? world.ledger.jobs.get(subject)?.status ?? 'pending';
    const to = kind.slice('job.'.length);
    const next: readonly string[] = nextStates[from as JobState];
    if (!next.includes(to)) world.fail('final', `${job.key} went from ${from} to ${to}`);
    states.set(subject, to);
  }
  for (const { id, key, status } of changes.jobs) {
    const told = after.told.get(id)?.kind ?? 'job.pending';
    if (told !== `job.${status}`) world.fail('events', `${key} is ${status}, the last event says ${told}`);
  }
  for (const { id, name, status } of changes.builds) {
    const told = after.told.get(id)?.kind ?? 'build.scheduled';
    if (told !== `build.${status}`) world.fail('events', `${name} is ${status}, the last event says ${told}`);
  }
}

function checkCapacity({ scenario, fail }: World, { leases }: After): void {
  const open = [...leases.values()].filter(({ capsuleEnded }) => capsuleEnded === null);
  for (const [host, capsules] of Map.groupBy(open, (lease) => lease.host)) {
    const { room } = traitsOf(scenario, host);
    const used = capsules.reduce((sum, { cpus }) => sum + cpus, 0);
    if (used > room) fail('capacity', `host-${host.slice(-1)} has room for ${room} and was given ${used}`);
  }
}

function traitsOf({ hosts }: Scenario, hostId: string): HostTraits {
  return hosts[Number(hostId.slice(-1)) - 1] ?? { room: 0, memoryVersion: null };
}

/** A step that keeps its memory, or goes on from what another kept, is only given to a host where that can be. */
function checkMemory({ scenario, fail, ledger }: World, { jobs, layers }: After, { id, job: jobId, host }: LeaseEntry) {
  const job = jobs.get(jobId);
  if (ledger.leases.has(id) || job === undefined) return;
  const { memoryVersion } = traitsOf(scenario, host);
  const parent = job.parent === null ? undefined : jobs.get(job.parent);
  const maker = parent?.snapshot === 'memory' ? layers.find((layer) => layer.id === parent.layer)?.host : undefined;
  const what = `${job.key} is given to host-${host.slice(-1)}, which`;
  if (job.snapshot === 'memory' && memoryVersion === null) fail('memory', `${what} cannot keep its memory`);
  if (maker !== undefined && traitsOf(scenario, maker).memoryVersion !== memoryVersion)
    fail('memory', `${what} cannot go on from the memory that host-${maker.slice(-1)} kept`);
}

/** A disk that a lease has left is kept while its build goes on; one nobody can start from is released at once. */
function checkLayers(world: World, after: After, { layers }: Changes): void {
  for (const { id, build, released } of layers) {
    const entry = after.builds.get(build);
    const isUsed = [...after.jobs.values()].some(({ layer }) => layer === id);
    if (released && isUsed && entry?.finished === null)
      world.fail('I1', `a disk of ${entry.name} is released while it goes on`);
  }
}

/** Whether nothing is left to be done or to be removed. */
export function isQuiet({ ledger, owed }: World, hosts: readonly SimulatedHost[]): boolean {
  if (ledger.layers.length > 0 || owed.size > 0) return false;
  for (const { finished } of ledger.builds.values()) if (finished === null) return false;
  for (const { status } of ledger.leases.values()) if (status === 'held') return false;
  return hosts.every(({ isUp, leases, layers }) => isUp && leases().length === 0 && layers.size === 0);
}

/** Whole logs, byte for byte, and what else is looked at only once. */
export async function checkEnd(world: World): Promise<void> {
  const { session, ledger, stats } = world;
  stats.builds = ledger.builds.size;
  stats.jobs = ledger.jobs.size;
  const { rows } = await session.query(
    `select job_id as job, string_agg(content, ''::bytea order by seq) as content from log_chunks where stream <> 2 group by job_id`,
    [],
  );
  const logs = new Map(
    (rows as { job: string; content: Buffer }[]).map(({ job, content }) => [job, content.toString()]),
  );
  for (const job of ledger.jobs.values()) {
    const accepted = leasesOf(ledger, job.id).flatMap((lease) => acceptedOutput(world, lease));
    const expected = Buffer.concat(accepted).toString();
    const stored = logs.get(job.id) ?? '';
    if (stored !== expected)
      world.fail('I4', `the log of ${job.key} is ${JSON.stringify(stored)}, not ${JSON.stringify(expected)}`);
    checkWhole(world, job);
  }
}

/** Of a run that passed, everything is there. */
function checkWhole(world: World, job: JobEntry): void {
  const last = leasesOf(world.ledger, job.id).at(-1);
  if (job.status !== 'passed' || last === undefined) return;
  const written = world.records.get(last.id)?.messages.length ?? 0;
  if (last.seq !== written) world.fail('I4', `${job.key} passed with ${last.seq} of ${written} messages`);
}

function leasesOf({ leases }: Ledger, jobId: string): readonly LeaseEntry[] {
  return [...leases.values()].filter(({ job }) => job === jobId).toSorted((one, other) => one.fence - other.fence);
}

function isSame<T extends object>(one: T, other: T): boolean {
  return differenceOf(one, other) === '';
}

function differenceOf<T extends object>(one: T, other: T): string {
  const keys = Object.keys(one) as (keyof T & string)[];
  return keys.flatMap((key) => (one[key] === other[key] ? [] : [`${key} ${one[key]} → ${other[key]}`])).join(', ');
}

function tell({ history, ledger }: World, changes: Changes, who: string): void {
  const jobs = changes.jobs.flatMap(({ id, key, status, lease }) => {
    const fence = changes.leases.find((each) => each.id === lease)?.fence ?? ledger.leases.get(lease ?? '')?.fence;
    if (ledger.jobs.get(id)?.status === status) return [];
    return [`${key} ${status}${fence === undefined ? '' : ` (fence ${fence})`}`];
  });
  const builds = changes.builds.flatMap(({ id, name, status }) => {
    return ledger.builds.get(id)?.status === status ? [] : [`${name} ${status}`];
  });
  if (jobs.length + builds.length > 0) history.say(who, `commits: ${[...builds, ...jobs].join(', ')}`);
}
