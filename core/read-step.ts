import type { PlannedStep } from './plan.ts';
import {
  type At,
  describe,
  fieldOf,
  isStorable,
  quote,
  readName,
  readText,
  readTimeout,
  refuse,
  utf8Length,
} from './plan-reading.ts';
import { readCacheKey } from './read-cache.ts';
import type { Env } from './read-env.ts';

/** A step before its place in the graph is known. */
export type StepDraft = Omit<PlannedStep, 'buildsIn' | 'dependsOn' | 'needsMemorySnapshots'>;

/** Reads a command step in any dialect; null when it is refused. */
export function readStep(at: At, command: string | null, env: Env): StepDraft | null {
  const key = readKey(at);
  if (command === null) refuse(at, 'invalid_ir', 'has no cmd; give it the shell text to run.');
  const label = readText(at, 'label', at.reading.limits.nameLength);
  const image = readName(at, 'image');
  const timeoutMs = readTimeout(at);
  const snapshot = readSnapshot(at);
  const cacheKey = readCacheKey(at);
  const runner = readName(at, 'runner');
  const runnerArgs = readRunnerArgs(at);
  if (key === null || command === null || at.reading.rejection !== null) return null;
  return { key, label, command, image, env: env.values, timeoutMs, snapshot, cacheKey, runner, runnerArgs };
}

/** The `cmd` of an object; null when it is absent or refused. */
export function readCommand(at: At): string | null {
  const { commandBytes } = at.reading.limits;
  const command = readText(at, 'cmd', Number.POSITIVE_INFINITY);
  if (command === null) return null;
  // A unit of UTF-16 is at most three bytes, so short commands need no counting.
  const bytes = command.length * 3 <= commandBytes ? 0 : utf8Length(command);
  if (bytes > commandBytes) {
    refuse(
      at,
      'too_large',
      `has a cmd of ${bytes} bytes; at most ${commandBytes} are allowed. Put it in a script file.`,
    );
  }
  return command;
}

function readKey(at: At): string | null {
  const key = readText(at, 'key', at.reading.limits.nameLength);
  if (key === null) refuse(at, 'invalid_ir', 'has no key; give it one that no other step has.');
  else if (key === '') refuse(at, 'invalid_ir', 'has an empty key; give it one that no other step has.');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to find
  else if (/[\u0000-\u001f\u007f]/.test(key))
    refuse(at, 'invalid_ir', 'has a control character in its key; take it out.');
  return key;
}

/** An addition of ours to the document: what of a step its `builds_in` children start from. */
function readSnapshot(at: At): 'disk' | 'memory' {
  const snapshot = fieldOf(at.fields, 'snapshot');
  if (snapshot === null) return 'disk';
  const what = typeof snapshot === 'string' ? quote(snapshot) : describe(snapshot);
  if (snapshot !== 'memory')
    refuse(at, 'invalid_ir', `has ${what} as snapshot; it must be "memory", or be left out to keep the disk alone.`);
  return 'memory';
}

/** Any JSON value, as long as it can be stored and walked again. */
function readRunnerArgs(at: At): unknown {
  const args = fieldOf(at.fields, 'runner_args');
  if (args === null) return null;
  const open: { value: unknown; depth: number }[] = [{ value: args, depth: 0 }];
  let left = at.reading.limits.values;
  for (let item = open.pop(); item !== undefined; item = open.pop()) {
    const { value, depth } = item;
    if (!isStorableValue(value))
      refuse(at, 'invalid_ir', `has ${describe(value)} in runner_args that cannot be stored.`);
    if (typeof value !== 'object' || value === null) continue;
    const inside = Object.entries(value);
    left -= inside.length;
    if (depth >= at.reading.limits.depth || left < 0) {
      refuse(at, 'too_large', 'has runner_args that are too deep or too many; make them smaller.');
      return null;
    }
    if (!inside.every(([name]) => isStorable(name)))
      refuse(at, 'invalid_ir', 'has a NUL in a name in runner_args; take it out.');
    for (const [, child] of inside) open.push({ value: child, depth: depth + 1 });
  }
  return args;
}

function isStorableValue(value: unknown): boolean {
  if (typeof value === 'string') return isStorable(value);
  return typeof value !== 'number' || Number.isFinite(value);
}
