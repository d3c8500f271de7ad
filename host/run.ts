import { setTimeout as delay } from 'node:timers/promises';
import { AppError, hasCode, messageOf } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { CancelReason, RunEvent, RunFailureCode, RunResult } from '@caisson/contracts/host-api';
import { isDiskFull } from './disk-full.ts';
import type { DiskWatch, WatchedDisk } from './disk-watch.ts';
import type { GuestProcess } from './guest-link.ts';
import type { Machine } from './machine-driver.ts';
import type { JournalPlace, RunJournal } from './run-journal.ts';
import { journalOutput } from './run-output.ts';
import { commandOf, commandProcessId, type Provisioner } from './run-provision.ts';
import { steadyMs } from './steady-clock.ts';

const sigterm = 15;
const sigkill = 9;
const deathNoticeMs = 5_000;

/** One run being carried out. */
export interface Run {
  readonly journal: RunJournal;
  /** Asks the run to end; the first reason counts. */
  cancel(reason: CancelReason): void;
  /** Stops supervising: the command runs on and its capsule waits for the next host. One that had not begun is begun anew by it. */
  leave(): void;
  /** Resolves when the final message is in the journal and nothing of the run is left on the machine, or when it was left. */
  readonly finished: Promise<void>;
}

interface RunDeps {
  readonly provisioner: Provisioner;
  readonly diskWatch: DiskWatch;
  /** Called after every record, so that the watcher looks again. */
  readonly onRecord: () => void;
}

/** What an earlier host process knew of a run when it was killed. */
export interface RunHistory {
  /** `steadyMs` is null where an earlier version wrote it down; the guest's own limit holds then. */
  readonly started: { processId: number; steadyMs: number | null } | null;
  readonly guestOffset: number;
  readonly outputBytes: number;
  /** The log says already that output is dropped. */
  readonly isMarked: boolean;
}

export const noHistory: RunHistory = { started: null, guestOffset: 0, outputBytes: 0, isMarked: false };

/** Begins a run, or goes on with one that outlived an earlier host process. */
export function startRun(deps: RunDeps, journal: RunJournal, history: RunHistory): Run {
  const ending = new AbortController();
  const leaving = new AbortController();
  const cancel = (reason: CancelReason) => {
    if (!ending.signal.aborted) ending.abort(reason);
  };
  if (journal.noted.cancelReason !== null) cancel(journal.noted.cancelReason);
  const state = { history, ending: ending.signal, leaving: leaving.signal, cancel };
  return { journal, cancel, leave: () => leaving.abort(), finished: carryOut(deps, journal, state) };
}

interface RunState {
  readonly history: RunHistory;
  /** Aborted with a `CancelReason` when the run shall end. */
  readonly ending: AbortSignal;
  /** Aborted when this process shall let go of the run. */
  readonly leaving: AbortSignal;
  cancel(reason: CancelReason): void;
}

async function carryOut(deps: RunDeps, journal: RunJournal, state: RunState): Promise<void> {
  const say = async (event: RunEvent, place?: JournalPlace) => {
    await journal.append(event, place);
    deps.onRecord();
  };
  const note = (line: string) => say({ kind: 'output', stream: 'meta', bytes: Buffer.from(`[caisson] ${line}\n`) });
  let result: RunResult;
  let disk: WatchedDisk | null = null;
  try {
    if (journal.noted.result !== null) {
      result = await giveBack(deps, journal, {
        machine: await deps.provisioner.adopt(journal.assignment),
        result: journal.noted.result,
      });
      return await say({ kind: 'finished', result });
    }
    const machine = await takeMachine(deps, journal, { state, note });
    if (state.leaving.aborted) machine.guest.close();
    else state.leaving.addEventListener('abort', () => machine.guest.close(), { once: true });
    disk = machine.writable && (await deps.diskWatch.watch(machine.writable, journal.assignment.shape.diskBytes));
    const process = await takeProcess(machine, journal, { state, say });
    result = await follow(deps, { machine, process, disk, journal, state });
    if (result.outcome === 'exited') await disk?.check();
    crashPoint('command.ended');
    await settle(journal, result);
    result = await giveBack(deps, journal, { machine, result });
  } catch (error) {
    if (state.leaving.aborted) return;
    result = journal.noted.result ?? (state.ending.aborted ? endedBy(state.ending) : failure(error));
    if (journal.noted.result === null) await settle(journal, result);
    // What cannot be removed now is removed at the next start; the run is over in any case.
    await deps.provisioner.discard(journal.assignment.capsuleId).catch(() => {});
  } finally {
    disk?.stop();
  }
  await say({ kind: 'finished', result });
  crashPoint('finished.journaled');
}

/**
 * Writes down how the run ends before anything of its capsule goes: a host killed from here on has nothing to guess. Where that cannot
 * be written, on a full disk, such a run counts as lost.
 */
async function settle(journal: RunJournal, result: RunResult): Promise<void> {
  await journal.note({ kind: 'ending', result }).catch(() => {});
  crashPoint('ending.noted');
}

/** The run's machine, an adopted or a new one. */
async function takeMachine(
  { provisioner }: RunDeps,
  journal: RunJournal,
  { state, note }: { state: RunState; note: (line: string) => Promise<void> },
): Promise<Machine> {
  const adopted = await provisioner.adopt(journal.assignment);
  crashPoint('run.adopted');
  if (adopted !== null) return adopted;
  if (journal.noted.isBegun)
    throw new AppError('sandbox_lost', 'the capsule ended while its host was down; run the job again');
  const signal = AbortSignal.any([state.ending, state.leaving]);
  return provisioner.provision(journal.assignment, { note, signal });
}

/** The command's process: the one an earlier host started, else a new one. */
async function takeProcess(
  machine: Machine,
  journal: RunJournal,
  { state, say }: { state: RunState; say: (event: RunEvent, place?: JournalPlace) => Promise<void> },
): Promise<GuestProcess> {
  const { started, guestOffset } = state.history;
  const known = await machine.guest.attach(started?.processId ?? commandProcessId(journal.assignment), guestOffset);
  if (known === null && started !== null)
    throw new AppError('sandbox_lost', 'the capsule does not know its command any more');
  if (state.ending.aborted && known === null) throw new AppError('guest_lost', 'canceled before the command began');
  // All of that is in the journal; the agent may be waiting to hear it before it takes more of the output.
  known?.acknowledge(guestOffset);
  const process = known ?? (await begin(machine, journal));
  crashPoint('command.started');
  if (started === null) await say({ kind: 'started' }, { processId: process.processId, steadyMs: steadyMs() });
  crashPoint('started.journaled');
  return process;
}

/** At most once for a lease: a later host that finds no capsule sees by the note that the command may have run. */
async function begin(machine: Machine, journal: RunJournal): Promise<GuestProcess> {
  const command = await commandOf(machine, journal.assignment);
  await journal.note({ kind: 'beginning' });
  crashPoint('beginning.noted');
  return machine.guest.exec(command);
}

interface Following {
  readonly machine: Machine;
  readonly process: GuestProcess;
  /** Null when the driver limits the disk by itself. */
  readonly disk: WatchedDisk | null;
  readonly journal: RunJournal;
  readonly state: RunState;
}

/** Waits for the end of the command, whichever way it comes, with all its output in the journal. */
async function follow(deps: RunDeps, following: Following): Promise<RunResult> {
  const { machine, process, disk, journal, state } = following;
  const stopTimers = armTimers(following);
  const output = journalOutput(journal, process, {
    alreadyBytes: state.history.outputBytes,
    isMarked: state.history.isMarked,
    onRecord: deps.onRecord,
  });
  const full = disk?.full.then((error) => {
    // Nobody needs to be heard any more: what it says only fills the disk further.
    machine.guest.close();
    throw error;
  });
  const ended = Promise.all([process.exit, output]);
  try {
    const [exit] = await Promise.race(full ? [ended, full] : [ended]).catch(async (error) => {
      const cause = await causeOf(error, following);
      // What fills the disk goes first: the last of the output may wait for that room, and nothing may come behind the final message.
      if (!state.leaving.aborted) {
        await settle(journal, state.ending.aborted ? endedBy(state.ending) : failure(cause));
        await deps.provisioner.discard(journal.assignment.capsuleId).catch(() => {});
      }
      await output.catch(() => {});
      throw cause;
    });
    if (state.ending.aborted) return endedBy(state.ending);
    if (exit.timedOut) return { outcome: 'timed_out' };
    if (exit.exitCode !== 0 && (await machine.wasOutOfMemory())) throw outOfMemory(journal);
    if (exit.exitCode !== 0 && (await machine.isDiskFull())) throw diskFull(journal);
    return { outcome: 'exited', exitCode: exit.exitCode, signal: exit.signal };
  } finally {
    stopTimers();
  }
}

/** SIGTERM when the run shall end or its time is over, SIGKILL after the grace. The guest itself kills later still. */
function armTimers({ process, journal, state }: Following): () => void {
  const { timeoutMs, graceMs } = journal.assignment;
  const nowMs = steadyMs();
  const elapsedMs = nowMs - (state.history.started?.steadyMs ?? nowMs);
  const timers: NodeJS.Timeout[] = [];
  let isStopped = false;
  const end = async () => {
    // Before the command can die of it: else a host that follows would take that for the command's own end.
    await journal.note({ kind: 'canceling', reason: state.ending.reason }).catch(() => {});
    crashPoint('canceling.noted');
    if (isStopped) return;
    process.kill(sigterm);
    timers.push(setTimeout(() => process.kill(sigkill), graceMs));
    crashPoint('command.canceled');
  };
  timers.push(setTimeout(() => state.cancel('timed_out'), Math.max(0, timeoutMs - elapsedMs)));
  if (state.ending.aborted) void end();
  else state.ending.addEventListener('abort', end, { once: true });
  return () => {
    isStopped = true;
    state.ending.removeEventListener('abort', end);
    for (const timer of timers) clearTimeout(timer);
  };
}

/** A lost link is mostly the death of the capsule, which knows more of the reason. */
async function causeOf(error: unknown, { machine, disk, journal, state }: Following): Promise<unknown> {
  if (disk?.verdict) return disk.verdict;
  if (state.leaving.aborted) return error;
  const death = await Promise.race([machine.died, delay(deathNoticeMs, null, { ref: false })]);
  if (death === null) return error;
  if (death.outOfMemory) return outOfMemory(journal);
  return new AppError('sandbox_lost', `the capsule died: ${death.detail}`);
}

function outOfMemory(journal: RunJournal): AppError {
  const limitMib = Math.round(journal.assignment.shape.memoryBytes / 2 ** 20);
  return new AppError('out_of_memory', `the job used more than the ${limitMib} MiB of memory its capsule has`);
}

function diskFull(journal: RunJournal): AppError {
  const limitMib = Math.round(journal.assignment.shape.diskBytes / 2 ** 20);
  return new AppError('disk_full', `the job filled the ${limitMib} MiB of disk its capsule has`);
}

/** Seals the disk of a passed run when somebody will start from it, and removes everything else. */
async function giveBack(
  deps: RunDeps,
  journal: RunJournal,
  { machine, result }: { machine: Machine | null; result: RunResult },
): Promise<RunResult> {
  const isPassed = result.outcome === 'exited' && result.exitCode === 0;
  if (!isPassed || journal.assignment.sealAs === null) {
    await deps.provisioner.discard(journal.assignment.capsuleId);
    return result;
  }
  try {
    await deps.provisioner.seal(journal.assignment, machine);
    return result;
  } catch (error) {
    await deps.provisioner.discard(journal.assignment.capsuleId).catch(() => {});
    const code = isDiskFull(error) ? 'disk_full' : 'snapshot_failed';
    return { outcome: 'failed', code, message: `the snapshot could not be kept: ${messageOf(error)}` };
  }
}

function endedBy(ending: AbortSignal): RunResult {
  return ending.reason === 'timed_out' ? { outcome: 'timed_out' } : { outcome: 'canceled' };
}

const failureCodes: readonly RunFailureCode[] = [
  'image_unavailable',
  'source_invalid',
  'provision_failed',
  'snapshot_missing',
  'snapshot_failed',
  'out_of_memory',
  'disk_full',
  'sandbox_lost',
  'tools_unavailable',
];

function failure(error: unknown): RunResult {
  const code = isDiskFull(error) ? 'disk_full' : failureCodes.find((candidate) => hasCode(error, candidate));
  if (code !== undefined) return { outcome: 'failed', code, message: messageOf(error) };
  if (hasCode(error, 'guest_lost') || hasCode(error, 'guest_protocol')) {
    return { outcome: 'failed', code: 'sandbox_lost', message: messageOf(error) };
  }
  if (hasCode(error, 'image_invalid'))
    return { outcome: 'failed', code: 'image_unavailable', message: messageOf(error) };
  return { outcome: 'failed', code: 'provision_failed', message: messageOf(error) };
}
