import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What takes half a minute or more: what keeps a processor busy beside what mostly waits, the longest first. */
const slowFirst = [
  'server/test/simulation.test.ts',
  'server/test/simulation-seeds.test.ts',
  'e2e/partition.test.ts',
  'host/test/crash-points.test.ts',
  'e2e/kill-apart.test.ts',
  'server/test/crash-points.test.ts',
  'e2e/partition-long.test.ts',
  'e2e/two-hosts.test.ts',
  'host/test/microvm-memory.test.ts',
  'e2e/microvm.test.ts',
  'e2e/kill-up.test.ts',
  'e2e/upgrade.test.ts',
  'server/test/engine-outage.test.ts',
  'host/test/microvm-crash.test.ts',
  'server/test/engine-copies.test.ts',
  'host/test/microvm-runs.test.ts',
  'server/test/engine-sweep.test.ts',
  'host/test/driver-contract-microvm.test.ts',
  'server/test/engine-host.test.ts',
  'e2e/run.test.ts',
  'server/test/engine-waits.test.ts',
  'e2e/load.test.ts',
  'e2e/refusals.test.ts',
];

/**
 * The slow files before all others, so that none of them runs alone at the end. Vitest itself knows how long files take only where they
 * ran before; on a fresh clone it goes by their size, by which the slow ones come last.
 */
export default class TestOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rankOf = ({ moduleId }: TestSpecification) => {
      const rank = slowFirst.findIndex((name) => moduleId.endsWith(`/${name}`));
      return rank === -1 ? slowFirst.length : rank;
    };
    return (await super.sort(files)).toSorted((a, b) => rankOf(a) - rankOf(b));
  }
}
