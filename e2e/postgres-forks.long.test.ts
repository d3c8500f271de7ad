import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { debianMirror } from '../host/test/debian-mirror.ts';
import { microvmProblem } from '../host/test/test-kit.ts';
import { startMicrovmRig } from './microvm-rig.ts';
import { runToPass } from './passed-run.ts';
import type { Rig } from './rig.ts';

const problem = (await microvmProblem()) ?? ((await debianMirror()) === null ? 'no way to Debian packages' : null);
// PostgreSQL is installed in an emulated machine.
vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 120_000 });

describe.skipIf(problem !== null)('the example with PostgreSQL', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await startMicrovmRig();
  });
  afterAll(() => rig.end());

  test('passes: three forks at a time test against the server of one step, none of them starts it', async () => {
    const lines = await runToPass(rig, 'examples/postgres-forks', '--driver', 'microvm');
    const said = lines.filter(({ line }) => /^server process \d+/.test(line));
    expect(said.map(({ key }) => key).toSorted()).toEqual(['constraints', 'report', 'rush', 'server']);
    expect(new Set(said.map(({ line }) => line)).size).toBe(1);
  });
});
