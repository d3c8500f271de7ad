/** A pipeline after parsing, checking and ordering: what becomes jobs. */
export interface Plan {
  /** Prerequisites first: the order of the document, where a step that others need earlier is moved up to the first of them. */
  readonly steps: readonly PlannedStep[];
  readonly defaultImage: string | null;
  readonly timeoutMs: number | null;
}

export interface PlannedStep {
  readonly key: string;
  readonly label: string | null;
  readonly command: string;
  /** Where the disk of a step without `buildsIn` starts; null is the installation's default image. Always null with `buildsIn`. */
  readonly image: string | null;
  /** Pipeline env overlaid by step env. Every name is an own property, `__proto__` too. */
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number | null;
  /** Key of the step whose disk this one starts from. */
  readonly buildsIn: string | null;
  /**
   * Keys of every prerequisite, both edge kinds, without repeats, in plan order. Where waits would make more edges than the limit, a
   * step lists of those behind earlier waits only the ones since the last: the rest is held back by these, so nothing starts sooner.
   */
  readonly dependsOn: readonly string[];
  /** What is kept of it for the steps that build in it: its disk, or its memory too, with all that runs in it. */
  readonly snapshot: 'disk' | 'memory';
  /** It keeps memory, or one does that grows out of its disk, which is on the same host as this one. */
  readonly needsMemorySnapshots: boolean;
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
  | 'cycle'
  /** Over one of the planner's limits. */
  | 'too_large';

export type PlanResult = { readonly ok: true; readonly plan: Plan } | PlanRejection;

export interface PlanRejection {
  readonly ok: false;
  readonly code: PlanRejectionCode;
  /** Names the step and says what to change. */
  readonly message: string;
  /** Key of the step at fault, or its index in the document while it has no usable key; null when the fault is in no step. */
  readonly step: string | null;
}
