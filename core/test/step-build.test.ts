import { describe, expect, test } from 'vitest';
import { type Build, type BuildEvent, type BuildState, rollUp } from '../build.ts';
import type { JobState } from '../job.ts';
import { stepBuild } from '../step-build.ts';

const nowMs = 9_000;
const error = { code: 'invalid_ir', message: 'm' };
const builds = {
  unplanned: { status: 'scheduled', isPlanned: false, error: null },
  scheduled: { status: 'scheduled', isPlanned: true, error: null },
  running: { status: 'running', startedAtMs: 5_000, error: null },
  failing: { status: 'failing', startedAtMs: 5_000, error: null },
  canceling: { status: 'canceling', startedAtMs: 5_000 },
  passed: { status: 'passed', startedAtMs: 5_000, finishedAtMs: 6_000, error: null },
  failed: { status: 'failed', startedAtMs: 5_000, finishedAtMs: 6_000, error: null },
  canceled: { status: 'canceled', startedAtMs: null, finishedAtMs: 6_000, error: null },
} as const satisfies Record<string, Build>;

const changed = (...states: JobState[]): BuildEvent => ({ kind: 'jobs_changed', states, startedAtMs: null });
const events = {
  planned: { kind: 'planned', timeoutMs: null },
  rejected: { kind: 'rejected', error },
  cancel: { kind: 'cancel' },
  build_timeout: { kind: 'build_timeout' },
  waits: changed('pending', 'scheduled'),
  runs: changed('running', 'pending'),
  fails: changed('failed', 'running'),
  all_passed: changed('passed', 'skipped'),
  all_failed: changed('failed', 'skipped'),
  times_out: changed('timed_out', 'passed'),
  none: changed(),
} as const satisfies Record<string, BuildEvent>;

type Row = Record<keyof typeof events, BuildState | 'refused'>;
const refused = 'refused';
const follows = {
  runs: 'running',
  fails: 'failing',
  all_passed: 'passed',
  all_failed: 'failed',
  times_out: 'failed',
} as const;
const nothing: Row = {
  planned: refused,
  rejected: refused,
  cancel: refused,
  build_timeout: refused,
  waits: refused,
  runs: refused,
  fails: refused,
  all_passed: refused,
  all_failed: refused,
  times_out: refused,
  none: refused,
};
const table: Record<keyof typeof builds, Row> = {
  unplanned: {
    planned: 'scheduled',
    rejected: 'failed',
    cancel: 'canceling',
    build_timeout: refused,
    waits: 'scheduled',
    runs: 'scheduled',
    fails: 'scheduled',
    all_passed: 'scheduled',
    all_failed: 'scheduled',
    times_out: 'scheduled',
    none: 'scheduled',
  },
  scheduled: {
    ...nothing,
    ...follows,
    cancel: 'canceling',
    build_timeout: 'scheduled',
    waits: 'scheduled',
    none: 'scheduled',
  },
  running: { ...nothing, ...follows, cancel: 'canceling', build_timeout: 'running', waits: 'running', none: 'running' },
  failing: { ...nothing, ...follows, cancel: 'canceling', build_timeout: 'failing', waits: 'running', none: 'running' },
  canceling: {
    ...nothing,
    waits: 'canceling',
    runs: 'canceling',
    fails: 'canceling',
    all_passed: 'canceled',
    all_failed: 'canceled',
    times_out: 'canceled',
    none: 'canceled',
  },
  passed: nothing,
  failed: nothing,
  canceled: nothing,
};
const cells = (Object.keys(builds) as (keyof typeof builds)[]).flatMap((from) =>
  (Object.keys(events) as (keyof typeof events)[]).map((event) => ({ from, event, to: table[from][event] })),
);

test.each(cells)('$from, $event: $to', ({ from, event, to }) => {
  const step = stepBuild(builds[from], events[event], nowMs);
  expect(step.ok ? step.state.status : 'refused').toBe(to);
  if (!step.ok) return;
  const isOver = 'finishedAtMs' in step.state;
  expect(isOver).toBe(['passed', 'failed', 'canceled'].includes(to));
  expect(step.effects.some(({ kind }) => kind === 'build_finished')).toBe(isOver);
});

describe('a build', () => {
  test('begins with its first running job and keeps that time', () => {
    const first = stepBuild(builds.scheduled, { kind: 'jobs_changed', states: ['running'], startedAtMs: 7_000 }, nowMs);
    expect(first.ok && first.state).toEqual({ status: 'running', startedAtMs: 7_000, error: null });
    const later = stepBuild(builds.running, { kind: 'jobs_changed', states: ['passed'], startedAtMs: 8_000 }, nowMs);
    expect(later.ok && later.state).toEqual({ status: 'passed', startedAtMs: 5_000, finishedAtMs: nowMs, error: null });
  });

  test('counts its time from the plan', () => {
    const step = stepBuild(builds.unplanned, { kind: 'planned', timeoutMs: 1_000 }, nowMs);
    expect(step.ok && step.effects).toEqual([{ kind: 'advance_build' }, { kind: 'start_build_timer', atMs: 10_000 }]);
  });

  test('keeps the reason it was refused for', () => {
    const step = stepBuild(builds.unplanned, events.rejected, nowMs);
    expect(step.ok && step.state).toEqual({ status: 'failed', startedAtMs: null, finishedAtMs: nowMs, error });
  });

  test('out of time fails with a code, unless its jobs had passed already', () => {
    const late = stepBuild(builds.running, events.build_timeout, nowMs);
    if (!late.ok) throw new Error('refused');
    expect(stepBuild(late.state, events.build_timeout, nowMs).ok).toBe(false);
    const failed = stepBuild(late.state, events.times_out, nowMs);
    expect(failed.ok && failed.state).toMatchObject({ status: 'failed', error: { code: 'pipeline_timeout' } });
    const passed = stepBuild(late.state, events.all_passed, nowMs);
    expect(passed.ok && passed.state).toMatchObject({ status: 'passed', error: null });
  });
});

test.each<[BuildState, JobState[], boolean]>([
  ['scheduled', [], false],
  ['canceled', [], true],
  ['scheduled', ['pending', 'scheduled'], false],
  ['running', ['assigned', 'pending'], false],
  ['running', ['passed', 'pending'], false],
  ['failing', ['failed', 'pending'], false],
  ['failing', ['timed_out', 'canceling'], false],
  ['failed', ['timed_out', 'passed'], false],
  ['failed', ['failed', 'skipped', 'canceled'], false],
  ['passed', ['passed', 'skipped', 'canceled'], false],
  ['canceling', ['failed', 'canceling'], true],
  ['canceled', ['failed', 'passed', 'canceled'], true],
])('rolls up to %s: %j, cancel %s', (expected, states, cancelRequested) => {
  expect(rollUp(states, cancelRequested)).toBe(expected);
});
