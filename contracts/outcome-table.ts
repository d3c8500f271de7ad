import type { PlanRejectionCode } from '@caisson/core/plan';
import type { RunFailureCode } from './host-api.ts';

/** Codes stored in `error_code` of a build or job: outcomes of work, never answers to a request. */
type OutcomeCode =
  | PlanRejectionCode
  | RunFailureCode
  | 'render_failed'
  | 'pipeline_timeout'
  | 'step_timeout'
  | 'killed_by_signal';

interface OutcomeRow {
  readonly of: 'build' | 'job' | 'build, job';
  /** What happened and what to do about it, for the error pages. */
  readonly help: string;
}

export const outcomeTable: Readonly<Record<OutcomeCode, OutcomeRow>> = {
  invalid_json: { of: 'build', help: 'The pipeline document is not JSON. The message says where it breaks off.' },
  invalid_ir: {
    of: 'build',
    help: 'The pipeline document lacks something or holds something it must not. The message names the step.',
  },
  bad_version: {
    of: 'build',
    help: 'The pipeline document has a version this server does not read. Update the DSL or the server.',
  },
  duplicate_key: { of: 'build', help: 'Two steps have the same key. Give one of them another.' },
  unknown_dependency: { of: 'build', help: 'A step depends on a key no step has.' },
  too_large: {
    of: 'build',
    help: 'The pipeline document is over a limit on its size or on the number of steps. The message names it.',
  },
  cycle: { of: 'build', help: 'Steps depend on each other in a circle. The message lists them.' },
  render_failed: {
    of: 'build',
    help: 'The pipeline code failed, printed no pipeline, or took too long. Try `caisson render` on your machine.',
  },
  pipeline_timeout: { of: 'build, job', help: 'The pipeline ran longer than its own time limit.' },
  step_timeout: { of: 'job', help: 'The command ran longer than the time limit of its step.' },
  killed_by_signal: { of: 'job', help: 'The command was ended by a signal it did not expect.' },
  out_of_memory: { of: 'job', help: 'The command needed more memory than its capsule has.' },
  disk_full: { of: 'job', help: 'The capsule or its host ran out of disk.' },
  image_unavailable: {
    of: 'job',
    help: 'The image cannot be had: unknown name, no such tag, or no way to its registry.',
  },
  source_invalid: { of: 'job', help: 'The source archive is damaged or holds an entry that leaves its directory.' },
  provision_failed: { of: 'job', help: 'The capsule could not be set up, also not on a further try.' },
  snapshot_missing: {
    of: 'job',
    help: 'What this job starts from has been deleted, or cannot be used by its host any more. Run the build again.',
  },
  snapshot_failed: {
    of: 'job',
    help: 'The command passed, but its disk or memory could not be kept for the jobs that start from it.',
  },
  sandbox_lost: { of: 'job', help: 'The host running the capsule went away. Run the build again.' },
  tools_unavailable: { of: 'job', help: 'The host lacks the tools that render a pipeline. Run its setup again.' },
};
