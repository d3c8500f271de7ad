import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { expectNothingLeft } from '../host/test/nothing-left.ts';
import { microvmProblem, seedAccelerator, testKitsDir } from '../host/test/test-kit.ts';
import { jsonLines } from './program.ts';
import { expectCleared, type Rig, startRig } from './rig.ts';

const problem = await microvmProblem();
// Every machine is emulated, on a busy one.
vi.setConfig({ testTimeout: 400_000, hookTimeout: 400_000 });

describe.skipIf(problem !== null)('with a virtual machine for every job', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await startRig({ CAISSON_KITS_DIR: testKitsDir });
    await seedAccelerator(join(rig.dataDir, 'host', 'microvm'));
  });
  afterEach(async () => {
    await expectCleared(rig.dataDir);
    await expectNothingLeft(join(rig.dataDir, 'host', 'microvm'));
  });
  afterAll(() => rig.end());

  test('the example passes, its forks from the disk of another machine', async () => {
    const run = rig.start(['--json', 'run', 'examples/hello', '--logs', '--driver', 'microvm']);
    expect({ code: await run.ended, stderr: run.stderr(), stdout: run.stdout() }).toMatchObject({ code: 0 });
    const events = jsonLines(run.stdout());
    expect(events.at(-1)).toMatchObject({ kind: 'build_end', state: 'passed' });
    const lines = events.filter(({ kind }) => kind === 'step_log').map(({ line }) => line);
    expect(lines).toEqual(expect.arrayContaining(['built app with tools 1.0', 'hello from a caisson']));
    expect(lines.filter((line) => /in a virtual machine of its own: qemu/.test(String(line)))).toHaveLength(4);
  });
});
