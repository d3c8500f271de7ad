import picocolors from 'picocolors';
import type { Build, Job } from './build-requests.ts';
import type { BuildView } from './follow-build.ts';
import { countsOf, durationOf, markOf, nameOf, noteOf, reasonOf } from './job-text.ts';
import { makeLineWriter } from './line-writer.ts';

const shownStates: readonly Job['state'][] = ['running', 'passed', 'failed', 'timed_out', 'skipped', 'canceled'];

export interface ShowOptions {
  readonly write: (text: string) => void;
  readonly hasColors: boolean;
}

/** One line for each thing that happens: for logs, pipes and other programs' terminals. */
export function showPlain({ write, hasColors }: ShowOptions): BuildView {
  const colors = picocolors.createColors(hasColors);
  const seen = new Map<string, Job['state']>();
  const lines = makeLineWriter((name, line) => write(`${colors.dim(`${name} |`)} ${line}\n`));

  function showChange(job: Job): void {
    if (seen.get(job.id) === job.state) return;
    seen.set(job.id, job.state);
    if (shownStates.includes(job.state)) write(`${markOf(job, colors)} ${nameOf(job)} ${describe(job)}\n`);
  }

  return {
    update(_build, jobs) {
      for (const job of jobs) showChange(job);
    },
    log: (job, _stream, text) => lines.write(nameOf(job), text),
    finish(build, jobs) {
      lines.flush();
      write(summaryOf(build, jobs, hasColors));
    },
  };
}

function describe(job: Job): string {
  if (job.state === 'running') return 'started';
  const reason = job.state === 'failed' || job.state === 'timed_out' ? reasonOf(job) : null;
  const note = job.state === 'passed' ? `passed in ${noteOf(job, Date.now())}` : noteOf(job, Date.now());
  return reason === null ? note : `${note}: ${reason}`;
}

/** The last lines of every view. */
export function summaryOf(build: Build, jobs: readonly Job[], hasColors: boolean): string {
  const colors = picocolors.createColors(hasColors);
  const paint = build.state === 'passed' ? colors.green : build.state === 'failed' ? colors.red : colors.yellow;
  const head = `${paint(build.state)} in ${durationOf(build)} (${countsOf(jobs)})`;
  const failed = jobs.filter(({ state }) => state === 'failed' || state === 'timed_out');
  const reasons = failed.map((job) => `  ${colors.red('✗')} ${nameOf(job)}: ${reasonOf(job) ?? job.state}\n`);
  const error = build.error_message === null ? '' : `  ${build.error_code}: ${build.error_message}\n`;
  return `${head}\n${error}${reasons.join('')}`;
}
