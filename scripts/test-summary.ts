import { writeFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Adds to vitest's own output what it leaves out: each skipped test with its reason, and one plain line of numbers. */
export default class TestSummary implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const inState = (state: string) => tests.filter((test) => test.result().state === state);
    // A file that does not load, or a hook that fails, has no test to count.
    const broken = modules.filter((module) => module.state() === 'failed' && !hasFailedTest(module));
    const skipped = inState('skipped');
    const lines = skipped.map(
      (test) => `SKIPPED ${test.module.relativeModuleId} > ${test.fullName}: ${reasonOf(test)}`,
    );
    const failed = inState('failed').length + broken.length;
    lines.push(`tests: ${inState('passed').length} passed, ${failed} failed, ${skipped.length} skipped`);
    const path = process.env.CAISSON_TEST_SUMMARY;
    if (path) writeFileSync(path, `${lines.join('\n')}\n`);
  }
}

function hasFailedTest(module: TestModule): boolean {
  return [...module.children.allTests('failed')].length > 0;
}

function reasonOf(test: TestCase): string {
  const result = test.result();
  return (result.state === 'skipped' && result.note) || 'no reason given';
}
