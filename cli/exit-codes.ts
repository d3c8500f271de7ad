/** What the shell gets from `caisson`. Scripts depend on these numbers. */
export const exitCodes = {
  ok: 0,
  buildFailed: 1,
  usage: 2,
  auth: 3,
  /** The network or this machine: no server, no database, nothing to run capsules with. */
  machine: 4,
  api: 5,
  invalidPipeline: 7,
  canceled: 130,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];
