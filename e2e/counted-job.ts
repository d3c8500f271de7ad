import { expect } from 'vitest';
import { type Builds, ir } from './builds.ts';

const lineCount = 60;

/**
 * A build that shows what happened to it: one job counts its starts on its disk and prints numbered lines for six seconds, a second
 * one built in it prints the count.
 */
export const countedIr: string = ir({
  lines: [
    `echo start >> /workspace/starts; for i in $(seq 1 ${lineCount}); do echo "line $i"; sleep 0.1; done; echo err >&2`,
  ],
  count: ['wc -l < /workspace/starts', { buildsIn: 'lines' }],
});

/** Starts one; resolves when it is in the middle of its lines. */
export async function startCounted(builds: Builds): Promise<number> {
  const number = await builds.create({ pipeline_ir: countedIr });
  await builds.logged(number, 'lines', 'line 10\n');
  return number;
}

/** The build passes, its command ran once, every line is in the log once and in order. */
export async function expectUndisturbed(builds: Builds, number: number, withinMs?: number): Promise<void> {
  const { build, jobs } = await builds.ended(number, withinMs);
  expect({ state: build.state, lines: jobs.lines?.state, count: jobs.count?.state }).toEqual({
    state: 'passed',
    lines: 'passed',
    count: 'passed',
  });
  const lines = (await builds.log(number, 'lines', 'stdout')).trimEnd().split('\n');
  expect(lines).toEqual(Array.from({ length: lineCount }, (_, index) => `line ${index + 1}`));
  expect((await builds.log(number, 'count', 'stdout')).trim()).toBe('1');
}
