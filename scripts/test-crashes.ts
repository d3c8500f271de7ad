import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { currentCommit } from '../bench/machine-facts.ts';

declare module 'vitest' {
  interface TaskMeta {
    /** Set by a test that had processes end at crash points, one after the other, once everything was well afterwards. */
    killedAt?: readonly { readonly point: string; readonly hit: number }[];
  }
}

const directory = join(import.meta.dirname, '../bench/results');

/** Keeps what a whole file of crash points killed and saw: `bench/results/crash-points-<package>.json`. */
export default class TestCrashes implements Reporter {
  async onTestRunEnd(modules: readonly TestModule[]): Promise<void> {
    for (const module of modules) {
      const tests = [...module.children.allTests()];
      const isWhole = tests.every((test) => ['passed', 'failed'].includes(test.result().state));
      if (isWhole && tests.some((test) => test.meta().killedAt !== undefined)) await keep(module, tests);
    }
  }
}

async function keep(module: TestModule, tests: readonly TestCase[]): Promise<void> {
  const name = module.relativeModuleId.split('/')[0];
  const kills = tests.flatMap((test) => test.meta().killedAt ?? []);
  const points = [...Map.groupBy(kills, ({ point }) => point)].map(([point, at]) => ({ point, kills: at.length }));
  const report = {
    commit: await currentCommit(),
    points: points.toSorted((a, b) => (a.point < b.point ? -1 : 1)),
    crashPoints: points.length,
    kills: kills.length,
    violations: tests.filter((test) => test.result().state === 'failed').length,
    seconds: Math.round(module.diagnostic().duration / 1000),
  };
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `crash-points-${name}.json`);
  writeFileSync(`${path}.tmp`, `${JSON.stringify(report, null, 2)}\n`);
  renameSync(`${path}.tmp`, path);
  console.log(`${name}: ${report.kills} kills at ${report.crashPoints} crash points, ${report.violations} violations`);
}
