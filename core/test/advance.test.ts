import { expect, test } from 'vitest';
import { type AdvanceJob, advance } from '../advance.ts';
import type { JobState } from '../job.ts';

/** `a:passed` or `b:pending<a,c`. */
function jobs(...specs: string[]): AdvanceJob[] {
  return specs.map((spec) => {
    const [head = '', needs] = spec.split('<');
    const [id = '', state = ''] = head.split(':');
    return { id, state: state as JobState, dependsOn: needs === undefined ? [] : needs.split(',') };
  });
}

test('schedules roots, and dependents once every prerequisite passed', () => {
  expect(advance(jobs('a:pending', 'b:pending<a'))).toMatchObject({ schedule: ['a'], state: 'scheduled' });
  const half = jobs('a:passed', 'b:running', 'c:pending<a', 'd:pending<a,b');
  expect(advance(half)).toEqual({ skip: [], schedule: ['c'], cancel: [], timeOut: [], state: 'running' });
});

test.each(['failed', 'timed_out', 'skipped', 'canceled'])('skips everything behind a %s job', (state) => {
  const graph = jobs(`a:${state}`, 'b:pending<a', 'c:pending<b', 'd:pending<e,c', 'e:running');
  expect(advance(graph)).toMatchObject({ skip: ['b', 'c', 'd'], schedule: [] });
});

test('a failure leaves independent jobs alone, unless the build stops at the first', () => {
  const graph = jobs('a:failed', 'b:pending', 'c:scheduled', 'd:running', 'e:pending<d');
  expect(advance(graph)).toMatchObject({ skip: [], schedule: ['b'], state: 'failing' });
  expect(advance(graph, { stopOnFailure: true })).toMatchObject({
    skip: ['b', 'c', 'e'],
    schedule: [],
    state: 'failing',
  });
});

test('a canceled job does not stop the build at its first failure', () => {
  expect(advance(jobs('a:canceled', 'b:pending'), { stopOnFailure: true })).toMatchObject({ schedule: ['b'] });
});

test('a cancel reaches every job that is not over, and ends a build of waiting jobs at once', () => {
  const graph = jobs('a:passed', 'b:running<a', 'c:assigned<a', 'd:scheduled<a', 'e:pending<d', 'f:canceling');
  expect(advance(graph, { cancelRequested: true })).toMatchObject({
    cancel: ['b', 'c', 'd', 'e'],
    skip: [],
    state: 'canceling',
  });
  const waiting = jobs('a:scheduled', 'b:pending<a');
  expect(advance(waiting, { cancelRequested: true, timedOut: true })).toMatchObject({
    cancel: ['a', 'b'],
    timeOut: [],
    state: 'canceled',
  });
});

test('a build out of time takes its jobs with it', () => {
  const graph = jobs('a:passed', 'b:running<a', 'c:pending<b');
  expect(advance(graph, { timedOut: true })).toMatchObject({ timeOut: ['b', 'c'], skip: [], state: 'failing' });
});

test('is done with a finished build', () => {
  const none = { skip: [], schedule: [], cancel: [], timeOut: [] };
  expect(advance(jobs('a:passed', 'b:skipped'))).toEqual({ ...none, state: 'passed' });
  expect(advance([])).toEqual({ ...none, state: 'scheduled' });
});

test('skips what waits for an unknown job or for itself', () => {
  expect(advance(jobs('a:pending<nowhere', 'b:pending<a'))).toMatchObject({ skip: ['a', 'b'], state: 'passed' });
  expect(advance(jobs('a:pending<b', 'b:pending<a'))).toMatchObject({ skip: ['a', 'b'] });
  expect(advance(jobs('a:pending<b', 'b:pending<a', 'c:running'))).toMatchObject({ skip: [], state: 'running' });
});

test('takes a hundred thousand jobs and ten times the edges', () => {
  const many: AdvanceJob[] = Array.from({ length: 100_000 }, (_, i) => ({
    id: String(i),
    state: i === 0 ? 'failed' : 'pending',
    dependsOn: Array.from({ length: Math.min(i, 10) }, (_, k) => String(i - 1 - k)),
  }));
  expect(advance(many).skip.length).toBe(99_999);
});
