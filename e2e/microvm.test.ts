import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { expectNothingLeft } from '../host/test/nothing-left.ts';
import { microvmProblem } from '../host/test/test-kit.ts';
import { startMicrovmRig } from './microvm-rig.ts';
import { runToPass } from './passed-run.ts';
import { expectCleared, type Rig } from './rig.ts';

const problem = await microvmProblem();
// Every machine is emulated, on a busy one.
vi.setConfig({ testTimeout: 400_000, hookTimeout: 400_000 });

describe.skipIf(problem !== null)('with a virtual machine for every job', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await startMicrovmRig();
  });
  afterEach(async () => {
    await expectCleared(rig.dataDir);
    await expectNothingLeft(join(rig.dataDir, 'host', 'microvm'));
  });
  afterAll(() => rig.end());

  test('the example passes, its forks from the disk of another machine', async () => {
    const lines = await runToPass(rig, 'examples/hello', '--driver', 'microvm');
    const said = lines.map(({ line }) => line);
    expect(said).toEqual(expect.arrayContaining(['built app with tools 1.0', 'hello from a caisson']));
    expect(said.filter((line) => /in a virtual machine of its own: qemu/.test(line))).toHaveLength(4);
  });
});
