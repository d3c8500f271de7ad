import type { CancelReason, RunAssignment, RunEvent, RunMessage, RunResult } from '@caisson/contracts/host-api';
import type { RunScript } from './random-pipeline.ts';
import type { RunRecord, World } from './world.ts';

/** One run on a simulated host, as its journal has it. */
export interface SimulatedRun {
  readonly assignment: RunAssignment;
  readonly record: RunRecord;
  readonly messages: RunMessage[];
  reason: CancelReason | null;
  isStarted: boolean;
  isFinished: boolean;
  /** How many messages the present watcher was sent. */
  sent: number;
  acknowledged: number;
}

/** What a run needs of its host. */
export interface RunPlace {
  readonly name: string;
  readonly layers: Set<string>;
  /** Disks that came from other hosts, and may come again. */
  readonly copies: Set<string>;
  /** Of which version the memory is that a layer or copy holds, if any. */
  readonly memories: Map<string, number>;
  /** Of the driver, where it keeps memory. */
  readonly memoryVersion: number | null;
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  /** How often the disk was lost. */
  readonly wipes: number;
  /** How often each job was given up so far. */
  readonly failures: Map<string, number>;
  /** Has `work` happen to a run that is still there then, once the process is there to do it. */
  later(run: SimulatedRun, delayMs: number, work: () => void): void;
  /** There are messages to be sent. */
  onMessage(): void;
}

/** The capsule is ready, or cannot be: the command begins, and goes on as its script says. */
export function beginRun(world: World, place: RunPlace, run: SimulatedRun): void {
  const obstacle = obstacleOf(world, place, run);
  if (obstacle !== null) {
    finishRun(world, place, { run, result: obstacle });
    return;
  }
  const script = scriptOf(run.assignment);
  const failure = failureOf(place, run.assignment, script);
  if (failure !== null && isBeforeStart(failure)) finishRun(world, place, { run, result: failed(failure) });
  else startCommand(world, place, { run, script, failure });
}

/** Why the command does not even begin. That a disk or a source is missing is right only where a disk was lost. */
function obstacleOf(
  world: World,
  { name, blobs, layers, copies, memories, memoryVersion, wipes }: RunPlace,
  run: SimulatedRun,
): RunResult | null {
  const { base, fence, leaseId, snapshot, sourceDigest } = run.assignment;
  if (run.reason !== null) return endedBy(run.reason);
  const isHeld = world.ledger.leases.get(leaseId)?.status === 'held';
  if (sourceDigest !== null && !blobs.has(sourceDigest)) {
    if (wipes === 0) world.fail('contract', `${name} was given fence ${fence} without its source`);
    return failed('source_invalid');
  }
  if ('layerId' in base && !layers.has(base.layerId) && !copies.has(base.layerId)) {
    if (wipes === 0 && isHeld) world.fail('I1', `the disk that fence ${fence} starts from was released`);
    return failed('snapshot_missing');
  }
  if ('layerId' in base && base.snapshot === 'memory' && memories.get(base.layerId) !== memoryVersion)
    world.fail('memory', `${name} has no memory from which fence ${fence} could go on`);
  if (snapshot === 'memory' && memoryVersion === null)
    world.fail('memory', `${name} is to keep the memory of fence ${fence}, and cannot`);
  return null;
}

/** The code with which the host gives up this time, null when it carries the script out. */
function failureOf({ failures }: RunPlace, { env, work }: RunAssignment, { end }: RunScript): string | null {
  if (end.kind !== 'fail') return null;
  const { CAISSON_JOB_ID: key = work.kind } = env;
  const times = failures.get(key) ?? 0;
  failures.set(key, times + 1);
  return times < end.times ? end.code : null;
}

interface Command {
  readonly run: SimulatedRun;
  readonly script: RunScript;
  readonly failure: string | null;
}

function startCommand(world: World, place: RunPlace, { run, script, failure }: Command): void {
  const { timeoutMs, fence } = run.assignment;
  run.isStarted = true;
  run.record.begun += 1;
  if ('layerId' in run.assignment.base && run.assignment.base.snapshot === 'memory') world.stats.forks += 1;
  if (run.record.begun > 1) world.fail('I2', `the command of fence ${fence} was begun twice`);
  say(world, place, { run, event: { kind: 'started' } });
  const lines = linesOf(place, run, script);
  for (const [index, text] of lines.entries()) {
    const event: RunEvent = { kind: 'output', stream: 'stdout', bytes: Buffer.from(text) };
    place.later(run, (script.lastsMs * (index + 1)) / (lines.length + 1), () => say(world, place, { run, event }));
  }
  place.later(run, timeoutMs, () => stopRun(world, place, { run, reason: 'timed_out' }));
  if (failure === null && script.end.kind === 'hang') return;
  const result = failure === null ? exitOf(script) : failed(failure);
  place.later(run, script.lastsMs, () => finishRun(world, place, { run, result }));
}

function linesOf({ blobs }: RunPlace, { assignment, record }: SimulatedRun, { lines }: RunScript): readonly string[] {
  if (assignment.work.kind === 'render') {
    const ir = Buffer.from(blobs.get(assignment.sourceDigest ?? '') ?? '').toString();
    return [ir.slice(0, 30), ir.slice(30)];
  }
  return Array.from({ length: lines }, (_, index) => `fence ${record.fence} line ${index + 1}\n`);
}

/** Asks a run to end, which takes a command up to its grace; the first reason counts. */
export function stopRun(
  world: World,
  place: RunPlace,
  { run, reason }: { run: SimulatedRun; reason: CancelReason },
): void {
  if (run.reason !== null || run.isFinished) return;
  run.reason = reason;
  const { fence, graceMs } = run.assignment;
  world.history.say(place.name, `fence ${fence}: is asked to end, ${reason}`);
  const endMs = world.draws.unit(`${place.name} grace`) * graceMs;
  if (run.isStarted) place.later(run, endMs, () => finishRun(world, place, { run, result: endedBy(reason) }));
}

/** Writes the last message; the disk of a run that passed is kept when somebody starts from it. */
export function finishRun(
  world: World,
  place: RunPlace,
  { run, result }: { run: SimulatedRun; result: RunResult },
): void {
  const { sealAs, snapshot } = run.assignment;
  const isPass = result.outcome === 'exited' && result.exitCode === 0 && result.signal === null;
  if (sealAs !== null && isPass) {
    place.layers.add(sealAs);
    if (snapshot === 'memory' && place.memoryVersion !== null) place.memories.set(sealAs, place.memoryVersion);
  }
  run.isFinished = true;
  say(world, place, { run, event: { kind: 'finished', result } });
}

function say(
  { history, timeline }: World,
  place: RunPlace,
  { run, event }: { run: SimulatedRun; event: RunEvent },
): void {
  const { leaseId, fence } = run.assignment;
  const message: RunMessage = { leaseId, fence, seq: run.messages.length + 1, atMs: timeline.nowMs, ...event };
  run.messages.push(message);
  run.record.messages.push(message);
  history.say(place.name, `fence ${fence}: message ${message.seq} is ${described(event)}`);
  place.onMessage();
}

function scriptOf({ work }: RunAssignment): RunScript {
  if (work.kind === 'shell') return JSON.parse(work.text) as RunScript;
  return { lines: 2, lastsMs: 50, end: { kind: 'exit', code: 0, signal: null } };
}

function isBeforeStart(code: string): boolean {
  return !['snapshot_failed', 'out_of_memory', 'disk_full', 'sandbox_lost'].includes(code);
}

export function failed(code: string): RunResult {
  return { outcome: 'failed', code: code as Extract<RunResult, { outcome: 'failed' }>['code'], message: 'simulated' };
}

function exitOf({ end }: RunScript): RunResult {
  const { code, signal } = end.kind === 'exit' ? end : { code: 0, signal: null };
  return { outcome: 'exited', exitCode: code, signal };
}

function endedBy(reason: CancelReason): RunResult {
  return { outcome: reason === 'timed_out' ? 'timed_out' : 'canceled' };
}

function described(event: RunEvent): string {
  if (event.kind !== 'finished') return event.kind;
  const { result } = event;
  if (result.outcome === 'exited')
    return result.signal === null ? `exit ${result.exitCode}` : `signal ${result.signal}`;
  return result.outcome === 'failed' ? `failed: ${result.code}` : result.outcome;
}
