import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { gvisorProblem } from '../host/test/gvisor-test-driver.ts';
import { expectNothingLeft } from '../host/test/nothing-left.ts';
import { testKitsDir } from '../host/test/test-kit.ts';
import { jsonLines } from './program.ts';
import { type Rig, startRig } from './rig.ts';

const problem = await gvisorProblem();
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

describe.skipIf(problem !== null)('with gVisor for every job', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await startRig({ CAISSON_KITS_DIR: testKitsDir });
  });
  afterEach(() => expectNothingLeft(join(rig.dataDir, 'host')));
  afterAll(() => rig.end());

  test('the example passes, rendering and all', async () => {
    const run = rig.start(['--json', 'run', 'examples/hello', '--logs', '--driver', 'gvisor']);
    expect({ code: await run.ended, stderr: run.stderr(), stdout: run.stdout() }).toMatchObject({ code: 0 });
    const events = jsonLines(run.stdout());
    expect(events.at(-1)).toMatchObject({ kind: 'build_end', state: 'passed' });
    const lines = events.filter(({ kind }) => kind === 'step_log').map(({ line }) => line);
    expect(lines).toEqual(expect.arrayContaining(['built app with tools 1.0', 'hello from a caisson']));
    const proven = await readFile(join(rig.dataDir, 'host', 'gvisor-probe.json'), 'utf8');
    expect(JSON.parse(proven).label).toMatch(/^runsc .* \((systrap|ptrace)\)$/);
  });
});
