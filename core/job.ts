export const jobStates = [
  'pending',
  'scheduled',
  'assigned',
  'running',
  'passed',
  'failed',
  'skipped',
  'canceling',
  'canceled',
  'timing_out',
  'timed_out',
] as const;
export type JobState = (typeof jobStates)[number];
