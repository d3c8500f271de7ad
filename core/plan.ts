/** A pipeline after parsing, checking and ordering: what becomes jobs. */
export interface Plan {
  /** Topological order; ties keep the order of the document. */
  readonly steps: readonly PlannedStep[];
  readonly defaultImage: string | null;
  readonly timeoutMs: number | null;
}

export interface PlannedStep {
  readonly key: string;
  readonly label: string | null;
  readonly command: string;
  /** Only at a root: where its disk starts. Null means the installation's default image. */
  readonly image: string | null;
  /** Pipeline env overlaid by step env. */
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number | null;
  /** Key of the step whose disk this one starts from. */
  readonly buildsIn: string | null;
  /** Keys of every prerequisite, both edge kinds, without repeats, in plan order. */
  readonly dependsOn: readonly string[];
  readonly cacheKey: string | null;
  readonly runner: string | null;
  readonly runnerArgs: unknown;
}

export type PlanRejectionCode =
  | 'invalid_json'
  | 'invalid_ir'
  | 'bad_version'
  | 'duplicate_key'
  | 'unknown_dependency'
  | 'cycle';

export type PlanResult =
  | { readonly ok: true; readonly plan: Plan }
  /** `message` names the step and says what to change; `step` is its key or its index in the document. */
  | { readonly ok: false; readonly code: PlanRejectionCode; readonly message: string; readonly step: string | null };
