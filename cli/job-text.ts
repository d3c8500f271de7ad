import type picocolors from 'picocolors';
import type { Build, Job } from './build-requests.ts';

type Colors = ReturnType<typeof picocolors.createColors>;

const marks: Record<Job['state'], string> = {
  pending: '·',
  scheduled: '○',
  assigned: '◌',
  running: '●',
  passed: '✓',
  failed: '✗',
  skipped: '-',
  canceling: '●',
  canceled: '-',
  timing_out: '●',
  timed_out: '✗',
};

/** Label of a job's step without `:emoji:` markers, which are for web pages, or its key. */
export function nameOf(job: Job): string {
  return job.name?.replace(/:[a-z0-9_+-]+:/g, '').trim() || job.step_key || job.id;
}

export function markOf({ state }: Job, colors: Colors): string {
  const mark = marks[state];
  if (state === 'passed') return colors.green(mark);
  if (state === 'failed' || state === 'timed_out') return colors.red(mark);
  return mark === '●' ? colors.yellow(mark) : colors.dim(mark);
}

/** What stands behind a job's name: how long it took, or what it waits for. */
export function noteOf(job: Job, nowMs: number): string {
  const { state, started_at, finished_at } = job;
  if (started_at === null) return state === 'passed' ? 'cached' : wordOf(state);
  const seconds = formatSeconds((finished_at === null ? nowMs : Date.parse(finished_at)) - Date.parse(started_at));
  return state === 'passed' || state === 'running' ? seconds : `${wordOf(state)} after ${seconds}`;
}

/** Why a job did not pass, in one line; null when its state says it all. */
export function reasonOf(job: Job): string | null {
  if (job.error_message !== null) return job.error_message;
  return job.exit_code === null ? null : `exit code ${job.exit_code}`;
}

/** `3 passed, 1 failed` in a fixed order, leaving out what did not happen. */
export function countsOf(jobs: readonly Job[]): string {
  const order: readonly Job['state'][] = ['passed', 'failed', 'timed_out', 'skipped', 'canceled'];
  const counts = order.map((state) => ({ state, count: jobs.filter((job) => job.state === state).length }));
  return counts
    .filter(({ count }) => count > 0)
    .map(({ state, count }) => `${count} ${wordOf(state)}`)
    .join(', ');
}

export function durationOf(build: Build): string {
  if (build.finished_at === null) return '';
  return formatSeconds(Date.parse(build.finished_at) - Date.parse(build.created_at));
}

function formatSeconds(durationMs: number): string {
  const seconds = Math.max(0, durationMs) / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)}s`;
  return `${Math.floor(seconds / 60)}m ${String(Math.floor(seconds % 60)).padStart(2, '0')}s`;
}

/** Steps from the root of the tree: one more than the deepest job it waits for. */
export function depthsOf(jobs: readonly Job[]): ReadonlyMap<string, number> {
  const depths = new Map<string, number>();
  for (const job of jobs) {
    const above = job.depends_on.map((id) => depths.get(id) ?? 0);
    depths.set(job.id, above.length === 0 ? 0 : Math.max(...above) + 1);
  }
  return depths;
}

const words: Partial<Record<Job['state'], string>> = {
  pending: 'waiting',
  scheduled: 'waiting for a host',
  assigned: 'preparing',
};

function wordOf(state: Job['state']): string {
  return words[state] ?? state.replace('_', ' ');
}
