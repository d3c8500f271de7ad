import { expect, test } from 'vitest';
import { type FaultRun, promisesPart, reliabilityPage } from '../reliability-page.ts';

const faults = [
  { fault: 'kill -9 of the host', file: 'e2e/kill-up.test.ts', title: 'a job goes on (once)' },
  { fault: 'any of them', file: 'e2e/all.test.ts', title: "nobody's job is lost by %s of $name" },
];
const promises = [{ id: 'I1', promise: 'no job is lost', faults }];
const run: FaultRun = { title: 'Simulation', name: 'simulation', command: 'npm run simulate', report: null };

test('every fault comes with a command that runs its test alone', () => {
  const part = promisesPart(promises);
  expect(part).toContain('| [I1](#I1) | no job is lost | 2 |');
  expect(part).toContain("`npm test -- e2e/kill-up.test.ts -t 'a job goes on \\(once\\)'`");
  expect(part).toContain('-t "nobody\'s job is lost by .* of .*"');
});

test('the numbers of a report become lines, and its points a table', () => {
  const report = {
    ...{ seeds: 10_000, seconds: 61.24, violations: [], commit: 'abc', machine: { cpu: 'X', cores: '2' } },
    points: [{ name: 'run.accepted', hits: 3, kills: 3 }],
  };
  const page = reliabilityPage(promises, [{ ...run, report }]);
  for (const line of ['| seeds | 10,000 |', '| seconds | 61.2 |', '| violations | 0 |']) expect(page).toContain(line);
  expect(page).toContain('| run.accepted | 3 | 3 |');
  expect(page).toContain('`npm run simulate` · commit abc · X, 2 cores');
});

test('a run without a report says how to have one', () => {
  expect(reliabilityPage(promises, [run])).toContain('Not run when this page was written: `npm run simulate`');
});
