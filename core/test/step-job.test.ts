import { describe, expect, test } from 'vitest';
import { isFinishedJobState, type Job, type JobEvent, type JobState, jobStates } from '../job.ts';
import { stepJob, stopTimeoutMs } from '../step-job.ts';

const nowMs = 9_000;
const attempts = { attempt: 1, maxAttempts: 3 };
const held = { ...attempts, leaseId: 'lease-1', scheduledAtMs: 1_000 };
const over = { ...attempts, scheduledAtMs: 1_000, startedAtMs: 2_000, finishedAtMs: 3_000 };
const error = { code: 'x', message: 'y' };

const jobs: { readonly [S in JobState]: Job } = {
  pending: { attempt: 0, maxAttempts: 3, status: 'pending' },
  scheduled: { attempt: 0, maxAttempts: 3, status: 'scheduled', scheduledAtMs: 1_000 },
  assigned: { ...held, status: 'assigned' },
  running: { ...held, status: 'running', startedAtMs: 2_000 },
  canceling: { ...held, status: 'canceling', startedAtMs: 2_000 },
  timing_out: { ...held, status: 'timing_out', startedAtMs: 2_000, error },
  passed: { ...over, status: 'passed', exitCode: 0 },
  failed: { ...over, status: 'failed', exitCode: 1, error: null },
  skipped: { ...over, status: 'skipped', startedAtMs: null },
  canceled: { ...over, status: 'canceled' },
  timed_out: { ...over, status: 'timed_out', error },
};

const lease = { leaseId: 'lease-1' };
const report = (result: Extract<JobEvent, { kind: 'finished' }>['result']): JobEvent => {
  return { kind: 'finished', ...lease, atMs: 5_000, result };
};
const events = {
  ready: { kind: 'ready' },
  skip: { kind: 'skip' },
  assigned: { kind: 'assigned', leaseId: 'lease-2' },
  unplaceable: { kind: 'unplaceable', error },
  cache_hit: { kind: 'cache_hit' },
  started: { kind: 'started', ...lease, atMs: 4_000 },
  passed: report({ outcome: 'exited', exitCode: 0, signal: null }),
  failed: report({ outcome: 'exited', exitCode: 2, signal: null }),
  killed: report({ outcome: 'exited', exitCode: 137, signal: 9 }),
  host_timed_out: report({ outcome: 'timed_out' }),
  host_canceled: report({ outcome: 'canceled' }),
  host_failed: report({ outcome: 'failed', code: 'out_of_memory', message: 'm' }),
  host_lost_it: report({ outcome: 'failed', code: 'sandbox_lost', message: 'm' }),
  lost: { kind: 'lost', ...lease },
  refused: { kind: 'refused', ...lease },
  start_expired: { kind: 'start_expired', ...lease },
  timeout_expired: { kind: 'timeout_expired', ...lease },
  stop_expired: { kind: 'stop_expired', ...lease },
  cancel: { kind: 'cancel' },
  build_timeout: { kind: 'build_timeout' },
} as const satisfies Record<string, JobEvent>;

/** What each event makes of each state; what is not here is refused. */
const ended = {
  passed: 1,
  failed: 1,
  killed: 1,
  host_timed_out: 1,
  host_canceled: 1,
  host_failed: 1,
  host_lost_it: 1,
  lost: 1,
  stop_expired: 1,
};
const table: Partial<Record<JobState, Partial<Record<keyof typeof events, JobState>>>> = {
  pending: { ready: 'scheduled', skip: 'skipped', cancel: 'canceled', build_timeout: 'timed_out' },
  scheduled: {
    assigned: 'assigned',
    unplaceable: 'failed',
    cache_hit: 'passed',
    skip: 'skipped',
    cancel: 'canceled',
    build_timeout: 'timed_out',
  },
  assigned: {
    started: 'running',
    passed: 'passed',
    failed: 'failed',
    killed: 'failed',
    host_timed_out: 'timed_out',
    host_canceled: 'scheduled',
    host_failed: 'failed',
    host_lost_it: 'scheduled',
    lost: 'scheduled',
    refused: 'scheduled',
    start_expired: 'scheduled',
    cancel: 'canceling',
    build_timeout: 'timing_out',
  },
  running: {
    passed: 'passed',
    failed: 'failed',
    killed: 'failed',
    host_timed_out: 'timed_out',
    host_canceled: 'scheduled',
    host_failed: 'failed',
    host_lost_it: 'scheduled',
    lost: 'scheduled',
    timeout_expired: 'timing_out',
    cancel: 'canceling',
    build_timeout: 'timing_out',
  },
  canceling: Object.fromEntries(Object.keys(ended).map((name) => [name, 'canceled'])),
  timing_out: Object.fromEntries(Object.keys(ended).map((name) => [name, 'timed_out'])),
};

const cells = jobStates.flatMap((from) =>
  (Object.keys(events) as (keyof typeof events)[]).map((event) => ({
    from,
    event,
    to: table[from]?.[event] ?? 'refused',
  })),
);

test.each(cells)('$from, $event: $to', ({ from, event, to }) => {
  const step = stepJob(jobs[from], events[event], nowMs);
  expect(step.ok ? step.state.status : 'refused').toBe(to);
  if (!step.ok) expect(step.code).toBe('illegal_transition');
});

test.each(cells.filter(({ to }) => to !== 'refused'))('$from, $event: times and effects fit $to', ({ from, event }) => {
  const step = stepJob(jobs[from], events[event], nowMs);
  if (!step.ok) throw new Error('refused');
  const kinds = step.effects.map(({ kind }) => kind);
  expect('finishedAtMs' in step.state).toBe(isFinishedJobState(step.state.status));
  // A lease ends exactly when the job leaves it.
  expect(kinds.includes('end_lease')).toBe('leaseId' in jobs[from] && !('leaseId' in step.state));
  expect(kinds.includes('place_job')).toBe(step.state.status === 'scheduled');
  expect(kinds.includes('run_job')).toBe(step.state.status === 'assigned');
  if (event !== 'ready') expect(kinds).toContain('advance_build');
});

describe('a job', () => {
  test('refuses what an earlier holder says', () => {
    for (const from of ['assigned', 'running', 'canceling', 'timing_out'] as const) {
      const step = stepJob(jobs[from], { kind: 'lost', leaseId: 'lease-0' }, nowMs);
      expect(step).toEqual({ ok: false, code: 'stale_lease' });
    }
  });

  test('counts an attempt with each lease', () => {
    const step = stepJob(jobs.scheduled, events.assigned, nowMs);
    expect(step.ok && step.state).toMatchObject({ attempt: 1, leaseId: 'lease-2' });
  });

  test('fails with a code once its attempts are used up', () => {
    const last: Job = { ...held, attempt: 3, status: 'running', startedAtMs: 2_000 };
    for (const event of [events.lost, events.host_lost_it, events.host_canceled]) {
      const step = stepJob(last, event, nowMs);
      expect(step.ok && step.state).toMatchObject({
        status: 'failed',
        exitCode: null,
        error: { code: 'sandbox_lost' },
      });
    }
    const slow = stepJob({ ...held, attempt: 3, status: 'assigned' }, events.start_expired, nowMs);
    expect(slow.ok && slow.state).toMatchObject({ status: 'failed', error: { code: 'provision_failed' } });
  });

  test('keeps its place in the queue when it is tried again', () => {
    const step = stepJob(jobs.running, events.lost, nowMs);
    expect(step.ok && step.state).toEqual({ attempt: 1, maxAttempts: 3, status: 'scheduled', scheduledAtMs: 1_000 });
    expect(step.ok && step.effects).toEqual([
      { kind: 'cancel_run', leaseId: 'lease-1', reason: 'lost' },
      { kind: 'end_lease', leaseId: 'lease-1', isLost: true },
      { kind: 'place_job' },
      { kind: 'advance_build' },
    ]);
  });

  test('carries exit code, signal and failure code', () => {
    const stateAfter = (event: JobEvent) => {
      const step = stepJob(jobs.running, event, nowMs);
      return step.ok ? step.state : null;
    };
    expect(stateAfter(events.passed)).toMatchObject({ exitCode: 0 });
    expect(stateAfter(events.failed)).toMatchObject({ exitCode: 2, error: null });
    expect(stateAfter(events.killed)).toMatchObject({ exitCode: 137, error: { code: 'killed_by_signal' } });
    expect(stateAfter(events.host_failed)).toMatchObject({
      exitCode: null,
      error: { code: 'out_of_memory', message: 'm' },
    });
    expect(stateAfter(events.host_timed_out)).toMatchObject({ error: { code: 'step_timeout' } });
  });

  test('is canceled by the host first, and by a timer when the host stays silent', () => {
    const step = stepJob(jobs.running, events.cancel, nowMs);
    expect(step.ok && step.effects).toEqual([
      { kind: 'cancel_run', leaseId: 'lease-1', reason: 'canceled' },
      { kind: 'start_stop_timer', leaseId: 'lease-1', afterMs: stopTimeoutMs },
      { kind: 'advance_build' },
    ]);
  });

  test('believes the clock of its host only within what is known here', () => {
    const startedAt = (atMs: number) => {
      const step = stepJob(jobs.assigned, { kind: 'started', ...lease, atMs }, nowMs);
      return step.ok && step.state.status === 'running' ? step.state.startedAtMs : null;
    };
    expect([startedAt(4_000), startedAt(-1), startedAt(1e15), startedAt(Number.NaN)]).toEqual([
      4_000, 1_000, 9_000, 9_000,
    ]);
    const finished = stepJob(jobs.running, { ...events.passed, atMs: 1_500 } as JobEvent, nowMs);
    expect(finished.ok && finished.state).toMatchObject({ startedAtMs: 2_000, finishedAtMs: 2_000 });
  });

  test('says which time ran out', () => {
    const byBuild = stepJob(jobs.running, events.build_timeout, nowMs);
    expect(byBuild.ok && byBuild.state).toMatchObject({ error: { code: 'pipeline_timeout' } });
    const byStep = stepJob(jobs.running, events.timeout_expired, nowMs);
    expect(byStep.ok && byStep.state).toMatchObject({ error: { code: 'step_timeout' } });
    expect(byStep.ok && byStep.effects[0]).toEqual({ kind: 'cancel_run', leaseId: 'lease-1', reason: 'timed_out' });
  });
});
