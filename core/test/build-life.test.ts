import fc from 'fast-check';
import { expect, test } from 'vitest';
import { advance } from '../advance.ts';
import type { Build, BuildEvent } from '../build.ts';
import { isFinishedJobState, type Job, type JobEffect, type JobEvent, type RunOutcome } from '../job.ts';
import { stepBuild } from '../step-build.ts';
import { stepJob } from '../step-job.ts';

/** A build with its jobs in memory, kept the way a server keeps it: one event, then `advance` until nothing changes. */
interface World {
  build: Build;
  readonly jobs: Job[];
  readonly needs: readonly (readonly number[])[];
  readonly stopOnFailure: boolean;
  nowMs: number;
  leases: number;
  finishedEffects: number;
}

function makeWorld(needs: readonly (readonly number[])[], stopOnFailure: boolean): World {
  const jobs = needs.map((): Job => ({ status: 'pending', attempt: 0, maxAttempts: 3 }));
  const build: Build = { status: 'scheduled', isPlanned: false, error: null };
  return { build, jobs, needs, stopOnFailure, nowMs: 1, leases: 0, finishedEffects: 0 };
}

function sendJob(world: World, index: number, event: JobEvent): boolean {
  const before = world.jobs[index]!;
  const step = stepJob(before, event, world.nowMs);
  if (!step.ok) return false;
  expect(isFinishedJobState(before.status), `a finished job took ${event.kind}`).toBe(false);
  if ('leaseId' in event && event.kind !== 'assigned') expect(before).toMatchObject({ leaseId: event.leaseId });
  if (before.status === 'canceling') expect(step.state.status).toBe('canceled');
  if (before.status === 'timing_out') expect(step.state.status).toBe('timed_out');
  expect(step.state.attempt).toBeLessThanOrEqual(step.state.maxAttempts);
  if ('finishedAtMs' in step.state && step.state.startedAtMs !== null) {
    expect(step.state.finishedAtMs).toBeGreaterThanOrEqual(step.state.startedAtMs);
  }
  world.jobs[index] = step.state;
  if (step.effects.some(({ kind }: JobEffect) => kind === 'advance_build' || kind === 'place_job')) settle(world);
  return true;
}

function sendBuild(world: World, event: BuildEvent): boolean {
  const step = stepBuild(world.build, event, world.nowMs);
  if (!step.ok) return false;
  expect('finishedAtMs' in world.build, `a finished build took ${event.kind}`).toBe(false);
  world.build = step.state;
  world.finishedEffects += step.effects.filter(({ kind }) => kind === 'build_finished').length;
  if (step.effects.some(({ kind }) => kind === 'advance_build')) settle(world);
  return true;
}

function settle(world: World): void {
  if ('finishedAtMs' in world.build) return;
  const options = {
    cancelRequested: world.build.status === 'canceling',
    timedOut: 'error' in world.build && world.build.error !== null,
    stopOnFailure: world.stopOnFailure,
  };
  const view = world.jobs.map(({ status }, i) => ({
    id: String(i),
    state: status,
    dependsOn: world.needs[i]!.map(String),
  }));
  const next = advance(view, options);
  const apply = (ids: readonly string[], event: JobEvent): void => {
    for (const id of ids) {
      const step = stepJob(world.jobs[Number(id)]!, event, world.nowMs);
      if (!step.ok) throw new Error(`advance sent ${event.kind} to a ${world.jobs[Number(id)]!.status} job`);
      world.jobs[Number(id)] = step.state;
    }
  };
  apply(next.skip, { kind: 'skip' });
  apply(next.schedule, { kind: 'ready' });
  apply(next.cancel, { kind: 'cancel' });
  apply(next.timeOut, { kind: 'build_timeout' });
  const started = world.jobs.flatMap((job) =>
    'startedAtMs' in job && job.startedAtMs !== null ? [job.startedAtMs] : [],
  );
  const states = world.jobs.map(({ status }) => status);
  const startedAtMs = started.length === 0 ? null : Math.min(...started);
  sendBuild(world, { kind: 'jobs_changed', states, startedAtMs });
  if (!options.timedOut) expect(world.build.status === next.state || world.build.status === 'running').toBe(true);
  checkGraph(world);
}

function checkGraph({ build, jobs, needs }: World): void {
  for (const [index, { status }] of jobs.entries()) {
    const before = needs[index]!.map((need) => jobs[need]!.status);
    const hasBegun = !['pending', 'skipped', 'canceled', 'timed_out'].includes(status);
    if (hasBegun) expect(before.every((state) => state === 'passed')).toBe(true);
    if (status === 'pending')
      expect(before.some((state) => isFinishedJobState(state) && state !== 'passed')).toBe(false);
  }
  const isOver = jobs.every(({ status }) => isFinishedJobState(status));
  expect('finishedAtMs' in build).toBe(isOver);
}

const outcomes: readonly RunOutcome[] = [
  { outcome: 'exited', exitCode: 0, signal: null },
  { outcome: 'exited', exitCode: 0, signal: null },
  { outcome: 'exited', exitCode: 3, signal: null },
  { outcome: 'timed_out' },
  { outcome: 'canceled' },
  { outcome: 'failed', code: 'sandbox_lost', message: 'm' },
  { outcome: 'failed', code: 'image_unavailable', message: 'm' },
];

interface Action {
  readonly kind: string;
  readonly job: number;
  readonly outcome: number;
  readonly isStale: boolean;
}

function act(world: World, { kind, job: pick, outcome, isStale }: Action): void {
  world.nowMs += 1 + outcome;
  const index = pick % world.jobs.length;
  const job = world.jobs[index]!;
  const leaseId = isStale ? 'an-earlier-one' : 'leaseId' in job ? job.leaseId : 'none';
  const frozen = 'finishedAtMs' in world.build ? JSON.stringify(world) : null;
  if (kind === 'cancel_build') sendBuild(world, { kind: 'cancel' });
  else if (kind === 'build_timeout') sendBuild(world, { kind: 'build_timeout' });
  else if (kind === 'assigned') sendJob(world, index, { kind: 'assigned', leaseId: `lease-${world.leases++}` });
  else sendJob(world, index, eventOf(kind, leaseId, { atMs: world.nowMs - 3, result: outcomes[outcome]! }));
  if (frozen !== null) {
    const { nowMs, leases } = world;
    expect(JSON.stringify(world)).toBe(JSON.stringify({ ...JSON.parse(frozen), nowMs, leases }));
  }
}

function eventOf(kind: string, leaseId: string, report: { atMs: number; result: RunOutcome }): JobEvent {
  switch (kind) {
    case 'started':
      return { kind, leaseId, atMs: report.atMs };
    case 'finished':
      return { kind, leaseId, ...report };
    case 'unplaceable':
      return { kind, error: { code: 'snapshot_missing', message: 'm' } };
    case 'cancel_job':
      return { kind: 'cancel' };
    default:
      return { kind, leaseId } as JobEvent;
  }
}

/** Nobody asks for anything any more; waiting jobs get a host, and hosts report what they hold. */
function drain(world: World, results: readonly number[]): void {
  for (let round = 0; round < 4 * world.jobs.length; round++) {
    for (const [index, job] of world.jobs.entries()) {
      if (job.status === 'scheduled') sendJob(world, index, { kind: 'assigned', leaseId: `lease-${world.leases++}` });
      const held = world.jobs[index]!;
      if (!('leaseId' in held)) continue;
      const result = outcomes[results[(round + index) % results.length]!]!;
      sendJob(world, index, { kind: 'finished', leaseId: held.leaseId, atMs: world.nowMs, result });
    }
  }
}

const graph = fc
  .integer({ min: 1, max: 10 })
  .chain((count) =>
    fc.tuple(
      ...Array.from({ length: count }, (_, i) =>
        fc.uniqueArray(fc.nat({ max: Math.max(0, i - 1) }), { maxLength: i === 0 ? 0 : 3 }),
      ),
    ),
  );
const kinds = [
  'assigned',
  'assigned',
  'assigned',
  'started',
  'started',
  'finished',
  'finished',
  'finished',
  'lost',
  'start_expired',
  'timeout_expired',
  'stop_expired',
  'unplaceable',
  'cache_hit',
  'cancel_job',
  'skip',
  'ready',
  'cancel_build',
  'build_timeout',
];
const action: fc.Arbitrary<Action> = fc.record({
  kind: fc.constantFrom(...kinds),
  job: fc.nat({ max: 9 }),
  outcome: fc.nat({ max: outcomes.length - 1 }),
  isStale: fc.nat({ max: 5 }).map((roll) => roll === 0),
});
const results = fc.array(fc.nat({ max: outcomes.length - 1 }), { minLength: 1, maxLength: 5 });

test('whatever happens, every build ends once events stop and hosts report', () => {
  fc.assert(
    fc.property(
      graph,
      fc.array(action, { maxLength: 60 }),
      results,
      fc.boolean(),
      (needs, actions, reports, stopOnFailure) => {
        const world = makeWorld(needs, stopOnFailure);
        sendBuild(world, { kind: 'planned', timeoutMs: 1_000 });
        for (const each of actions) act(world, each.kind === 'ready' ? { ...each, kind: 'started' } : each);
        drain(world, reports);
        expect(world.jobs.every(({ status }) => isFinishedJobState(status))).toBe(true);
        expect('finishedAtMs' in world.build).toBe(true);
        expect(world.finishedEffects).toBe(1);
        if (
          'finishedAtMs' in world.build &&
          world.jobs.some((job) => 'startedAtMs' in job && job.startedAtMs !== null)
        ) {
          expect(world.build.startedAtMs).not.toBeNull();
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('a canceled build ends as canceled, whatever its hosts report and even when they stay silent', () => {
  fc.assert(
    fc.property(graph, fc.array(action, { maxLength: 30 }), fc.boolean(), (needs, actions, isSilent) => {
      const world = makeWorld(needs, false);
      sendBuild(world, { kind: 'planned', timeoutMs: null });
      for (const each of actions) if (!['cancel_build', 'ready'].includes(each.kind)) act(world, each);
      if (!sendBuild(world, { kind: 'cancel' })) return;
      for (const [index, job] of world.jobs.entries()) {
        if (!('leaseId' in job)) continue;
        const { leaseId } = job;
        if (isSilent) sendJob(world, index, { kind: 'stop_expired', leaseId });
        else sendJob(world, index, { kind: 'finished', leaseId, atMs: 0, result: outcomes[0]! });
      }
      expect(world.build.status).toBe('canceled');
    }),
    { numRuns: 300 },
  );
});
