import type { Job } from './build-requests.ts';
import type { BuildView } from './follow-build.ts';
import { makeLineWriter } from './line-writer.ts';

/** One JSON object a line for each thing that happens; `docs/cli.md` lists the kinds. */
export function showJson(write: (text: string) => void): BuildView {
  const say = (event: object) => write(`${JSON.stringify(event)}\n`);
  const seen = new Map<string, Job['state']>();
  const started = new Set<string>();
  const jobsByName = new Map<string, Job>();
  const lines = makeLineWriter((name, line) => {
    const job = jobsByName.get(name);
    say({
      kind: 'step_log',
      step_id: job?.id,
      key: job?.step_key,
      stream: name.split(' ')[1],
      line,
      ts: new Date().toISOString(),
    });
  });

  function showChange(job: Job): void {
    const before = seen.get(job.id);
    if (before === job.state) return;
    seen.set(job.id, job.state);
    const step = { step_id: job.id, key: job.step_key };
    if (before === undefined) say({ kind: 'step_queued', ...step, display_name: job.name, depends_on: job.depends_on });
    // A short step is over before it was ever seen running.
    if (job.started_at !== null && !started.has(job.id)) {
      started.add(job.id);
      say({ kind: 'step_start', ...step, started_at: job.started_at });
    }
    if (job.finished_at !== null) say({ kind: 'step_end', ...step, ...endOf(job) });
  }

  return {
    update(_build, jobs) {
      for (const job of jobs) showChange(job);
    },
    log(job, stream, text) {
      const name = `${job.id} ${stream}`;
      jobsByName.set(name, job);
      lines.write(name, text);
    },
    finish(build, jobs) {
      lines.flush();
      for (const job of jobs) showChange(job);
      const duration_ms =
        build.finished_at === null ? null : Date.parse(build.finished_at) - Date.parse(build.created_at);
      say({ kind: 'build_end', state: build.state, exit_code: build.state === 'passed' ? 0 : 1, duration_ms });
    },
  };
}

function endOf({ state, exit_code, error_code, error_message, started_at, finished_at }: Job): object {
  const duration_ms =
    started_at === null || finished_at === null ? 0 : Date.parse(finished_at) - Date.parse(started_at);
  return { state, exit_code, error_code, error_message, duration_ms };
}
