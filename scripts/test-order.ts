import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What takes a minute or more, longest first. */
const slowFirst = [
  'server/test/simulation.test.ts',
  'server/test/simulation-seeds.test.ts',
  'host/test/crash-points.test.ts',
  'e2e/microvm.test.ts',
  'e2e/upgrade.test.ts',
  'e2e/kill-apart.test.ts',
  'host/test/microvm-template.long.test.ts',
  'host/test/escape-microvm.test.ts',
  'server/test/engine-outage.test.ts',
  'server/test/crash-points.test.ts',
  'e2e/partition.test.ts',
  'e2e/partition-long.test.ts',
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
