/** How large a pipeline may be. A command and an environment entry each become one argument of a process, which Linux caps. */
export interface PlanLimits {
  /** UTF-16 units of the JSON text. */
  readonly textLength: number;
  /** Entries of `steps` or `nodes`, waits included. */
  readonly steps: number;
  /** Prerequisites over all steps. */
  readonly edges: number;
  /** UTF-16 units of a key, label, image or runner. */
  readonly nameLength: number;
  readonly commandBytes: number;
  /** Of one step, with what it inherits from the pipeline. */
  readonly envEntries: number;
  /** Name and value of one entry. */
  readonly envEntryBytes: number;
  /** Of one step, with what it inherits from the pipeline. */
  readonly envBytes: number;
  /** Over all steps, each with what it inherits from the pipeline. */
  readonly totalEnvEntries: number;
  /** Nesting of `runner_args` and of composed cache policies. */
  readonly depth: number;
  /** Values inside one `runner_args`, and paths, names and parts inside one `cache`. */
  readonly values: number;
}

/** One argument of a process is at most 32 pages with its closing NUL. */
const maxArgumentBytes = 131_071;

export const defaultPlanLimits: PlanLimits = {
  textLength: 64 * 2 ** 20,
  steps: 100_000,
  edges: 1_000_000,
  nameLength: 512,
  commandBytes: maxArgumentBytes,
  envEntries: 1_000,
  envEntryBytes: maxArgumentBytes,
  envBytes: 2 ** 20,
  totalEnvEntries: 2_000_000,
  depth: 32,
  values: 10_000,
};
