import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Reporter, TestModule } from 'vitest/node';
import { currentCommit } from '../bench/machine-facts.ts';

declare module 'vitest' {
  interface TaskMeta {
    /** Set by a test that had processes end at crash points, one after the other, once everything was well afterwards. */
    killedAt?: readonly { readonly point: string; readonly hit: number }[];
  }
}

const directory = join(import.meta.dirname, '../bench/results');

/** The file of a package's own points; what other files kill at counts when it ran too. */
const ownFile = 'crash-points.test.ts';

/** Keeps what the crash points of a package killed and saw: `bench/results/crash-points-<package>.json`. */
export default class TestCrashes implements Reporter {
  async onTestRunEnd(modules: readonly TestModule[]): Promise<void> {
    const whole = modules.filter((module) => {
      const tests = [...module.children.allTests()];
      const isWhole = tests.every((test) => ['passed', 'failed'].includes(test.result().state));
      return isWhole && tests.some((test) => test.meta().killedAt !== undefined);
    });
    const packages = Map.groupBy(whole, (module) => module.relativeModuleId.split('/')[0] ?? '');
    for (const [name, files] of packages)
      if (files.some((module) => module.relativeModuleId.endsWith(ownFile))) await keep(name, files);
  }
}

async function keep(name: string, modules: readonly TestModule[]): Promise<void> {
  const tests = modules.flatMap((module) => [...module.children.allTests()]);
  const kills = tests.flatMap((test) => test.meta().killedAt ?? []);
  const points = [...Map.groupBy(kills, ({ point }) => point)].map(([point, at]) => ({ point, kills: at.length }));
  const report = {
    commit: await currentCommit(),
    points: points.toSorted((a, b) => (a.point < b.point ? -1 : 1)),
    crashPoints: points.length,
    kills: kills.length,
    violations: tests.filter((test) => test.result().state === 'failed').length,
    seconds: Math.round(modules.reduce((sum, module) => sum + module.diagnostic().duration, 0) / 1000),
  };
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `crash-points-${name}.json`);
  writeFileSync(`${path}.tmp`, `${JSON.stringify(report, null, 2)}\n`);
  renameSync(`${path}.tmp`, path);
  console.log(`${name}: ${report.kills} kills at ${report.crashPoints} crash points, ${report.violations} violations`);
}
