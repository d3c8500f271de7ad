import type { CachePolicy } from './cache-key.ts';
import { checkCachePolicy } from './cache-policy.ts';
import { type Duration, parseDuration } from './duration.ts';
import { readEnv } from './step-env.ts';

/** What can be said about a command. */
export interface StepOptions {
  /** Shown to people; also the source of the step's key. `:emoji:` markers are allowed. */
  readonly label?: string | undefined;
  /** The step's identity inside a build, when the one made from the label is not wanted. */
  readonly key?: string | undefined;
  /** Directory to run in, relative to the repository's root. */
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** The root filesystem to start from. Only counts where the step starts no other step's disk. */
  readonly image?: string | undefined;
  readonly cache?: CachePolicy | undefined;
  /** Wall-clock limit. */
  readonly timeout?: Duration | undefined;
  /**
   * `'memory'`: what is built on this step starts from its memory as well as its disk, so whatever it left running in the background
   * (a database, say) goes on in each fork. Runs only on hosts that can keep memory, by the drivers microvm and gvisor. Without it the disk alone is kept; on a step
   * that nothing is built on it says nothing.
   */
  readonly snapshot?: 'memory' | undefined;
  /** Steps that must pass first, besides the one whose disk this one starts from. */
  readonly after?: Step | readonly Step[] | undefined;
  readonly runner?: string | undefined;
  readonly runnerArgs?: unknown;
}

/** Everything a step is. `command` is set exactly for the kind `command`. */
export interface StepFields {
  readonly kind: 'command' | 'scratch' | 'fork' | 'wait';
  readonly parent?: Step | undefined;
  readonly command?: string;
  readonly label?: string | undefined;
  readonly key?: string | undefined;
  readonly env?: Readonly<Record<string, string>>;
  readonly image?: string | undefined;
  readonly cache?: CachePolicy | undefined;
  readonly timeoutSeconds?: number;
  readonly snapshot?: 'memory' | undefined;
  readonly after: readonly Step[];
  readonly runner?: string | undefined;
  readonly runnerArgs?: unknown;
  readonly continueOnFailure?: boolean;
}

/**
 * One point of a pipeline. Immutable: every method answers a new step. It is a class, and exported as one, because pipeline files
 * import `Step` by name and Node does not drop an import that is only used as a type.
 */
export class Step {
  readonly fields: StepFields;

  constructor(fields: StepFields) {
    this.fields = Object.freeze(fields);
    Object.freeze(this);
  }

  /** A command that starts from this step's disk as this step left it. */
  sh(command: string, options: StepOptions = {}): Step {
    refuseWait(this, 'A wait has no disk to start from: call .sh() on the step before it, or start anew with sh().');
    return commandStep(command, options, this);
  }

  /** A branch that runs nothing itself; what is built on it starts from this step's disk. */
  fork(label?: string | { readonly label?: string }): Step {
    refuseWait(this, 'A wait has no disk to fork: call .fork() on the step before it.');
    return new Step({
      kind: 'fork',
      parent: this,
      label: typeof label === 'object' ? label.label : label,
      after: [],
    });
  }

  /** The same step, started only once all of `steps` have passed too. */
  after(...steps: readonly (Step | readonly Step[])[]): Step {
    refuseWait(this, 'A wait already waits for everything before it: call .after() on a command.');
    if (this.fields.kind !== 'command')
      throw new Error(`${describeStep(this)} runs nothing: call .after() on a command.`);
    const added = readAfter(steps.flat(), describeStep(this));
    return new Step({ ...this.fields, after: [...this.fields.after, ...added] });
  }
}

/** A command on a fresh disk. */
export function sh(command: string, options: StepOptions = {}): Step {
  return commandStep(command, options, undefined);
}

/** An empty start that runs nothing; its image is where the commands built on it start. */
export function scratch(options: { readonly image?: string } = {}): Step {
  return new Step({ kind: 'scratch', image: options.image, after: [] });
}

/**
 * A barrier in the list of leaves: what stands behind it starts when everything before it has passed, or, with
 * `continueOnFailure`, has ended.
 */
export function wait(options: { readonly continueOnFailure?: boolean } = {}): Step {
  return new Step({ kind: 'wait', continueOnFailure: options.continueOnFailure === true, after: [] });
}

/** The same step with a wall-clock limit: `timeout("5m", sh("make"))`. Build on the answer, not on the step handed in. */
export function timeout(limit: Duration, step: Step): Step {
  if (!(step instanceof Step))
    throw new Error('timeout(): the second argument is a step, as in timeout("5m", sh("make")).');
  refuseWait(step, 'timeout(): a wait takes no time of its own. Put the timeout on the steps before it.');
  if (step.fields.kind !== 'command')
    throw new Error(`timeout(): ${describeStep(step)} runs nothing. Put the timeout on a command.`);
  return new Step({ ...step.fields, timeoutSeconds: parseDuration(limit, `timeout of ${describeStep(step)}`) });
}

/** Leaves that belong together; the same as the list. */
export function group<T>(leaves: readonly T[]): readonly T[] {
  return [...leaves];
}

/** How messages name a step. */
export function describeStep(step: Step): string {
  const { kind, key, label, command } = step.fields;
  const name = key ?? label ?? (command === undefined ? undefined : excerpt(command));
  return name === undefined ? `a ${kind}` : `step ${JSON.stringify(name)}`;
}

function commandStep(command: unknown, options: StepOptions, parent: Step | undefined): Step {
  if (typeof command !== 'string' || command.trim() === '') {
    throw new Error(`sh(): the command must be a non-empty string, not ${JSON.stringify(command) ?? String(command)}.`);
  }
  const what = `step ${JSON.stringify(options.key ?? options.label ?? excerpt(command))}`;
  for (const name of ['label', 'key', 'cwd', 'image', 'runner'] as const) checkText(options[name], `${what}: ${name}`);
  if (options.cache !== undefined) checkCachePolicy(options.cache, what);
  checkSnapshot(options.snapshot, what);
  return new Step({
    kind: 'command',
    parent,
    command: options.cwd === undefined ? command : `cd ${quoteForShell(options.cwd)} && ${command}`,
    label: options.label,
    key: options.key,
    env: readEnv(options.env ?? {}, what),
    image: options.image,
    cache: options.cache,
    ...(options.timeout === undefined ? {} : { timeoutSeconds: parseDuration(options.timeout, `timeout of ${what}`) }),
    snapshot: options.snapshot,
    after: readAfter([options.after ?? []].flat(), what),
    runner: options.runner,
    runnerArgs: options.runnerArgs,
  });
}

function readAfter(steps: readonly unknown[], what: string): readonly Step[] {
  return steps.map((step) => {
    if (!(step instanceof Step)) throw new Error(`${what}: "after" takes steps, not ${typeof step}.`);
    const command = nearestCommand(step);
    if (command === undefined)
      throw new Error(`${what}: "after" names ${describeStep(step)}, which runs nothing. Name a command.`);
    return command;
  });
}

/** The step itself or the closest one above it that runs a command. */
export function nearestCommand(step: Step | undefined): Step | undefined {
  let at = step;
  while (at !== undefined && at.fields.kind !== 'command') at = at.fields.parent;
  return at;
}

function refuseWait(step: Step, message: string): void {
  if (step.fields.kind === 'wait') throw new Error(message);
}

function checkText(value: unknown, what: string): void {
  if (value !== undefined && (typeof value !== 'string' || value.trim() === '')) {
    throw new Error(`${what} must be a non-empty string.`);
  }
}

function checkSnapshot(value: unknown, what: string): void {
  if (value === undefined || value === 'memory') return;
  const given = JSON.stringify(value) ?? String(value);
  throw new Error(`${what}: snapshot is ${given}. Write "memory", or leave it out to keep the disk alone.`);
}

function quoteForShell(path: string): string {
  return /^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}

function excerpt(command: string): string {
  const line = command.trim().split('\n')[0] ?? '';
  return line.length > 60 ? `${line.slice(0, 57)}...` : line;
}
