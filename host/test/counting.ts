import { expect } from 'vitest';
import type { Machine } from '../machine-driver.ts';
import { runInside } from './test-driver.ts';

/** Prints the number in a file in which a program counts; while that writes, it may be empty. */
export function countIn(path: string): string {
  return `until grep . ${path}; do sleep 0.05; done`;
}

/** The program that counts in this file goes on. */
export async function expectCounting(machine: Machine, path: string): Promise<void> {
  const counts = await runInside(machine, `${countIn(path)}; sleep 0.5; ${countIn(path)}`, { timeoutMs: 100_000 });
  expect(counts).toMatchObject({ exitCode: 0, stderr: '' });
  const [first = 0, second = 0] = counts.stdout.split('\n').map(Number);
  expect(second).toBeGreaterThan(first);
}
