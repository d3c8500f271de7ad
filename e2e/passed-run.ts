import { expect } from 'vitest';
import { jsonLines } from './program.ts';
import type { Rig } from './rig.ts';

interface StepLine {
  /** Of the step. */
  readonly key: string;
  readonly line: string;
}

/** `caisson run` of a folder, with further words, which has to pass. Returns what its steps wrote. */
export async function runToPass(rig: Rig, folder: string, ...words: readonly string[]): Promise<readonly StepLine[]> {
  const run = rig.start(['--json', 'run', folder, '--logs', ...words]);
  expect(await run.ended, `${run.stdout()}${run.stderr()}`).toBe(0);
  const events = jsonLines(run.stdout());
  expect(events.at(-1)).toMatchObject({ kind: 'build_end', state: 'passed' });
  const logged = events.filter(({ kind }) => kind === 'step_log');
  return logged.map(({ key, line }) => ({ key: String(key), line: String(line) }));
}
