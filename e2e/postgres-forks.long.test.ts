import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { debianMirror } from '../host/test/debian-mirror.ts';
import { microvmProblem, seedAccelerator, testKitsDir } from '../host/test/test-kit.ts';
import { jsonLines } from './program.ts';
import { type Rig, startRig } from './rig.ts';

const problem = (await microvmProblem()) ?? ((await debianMirror()) === null ? 'no way to Debian packages' : null);
// PostgreSQL is installed in an emulated machine.
vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 120_000 });

describe.skipIf(problem !== null)('the example with PostgreSQL', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await startRig({ CAISSON_KITS_DIR: testKitsDir });
    await seedAccelerator(join(rig.dataDir, 'host', 'microvm'));
  });
  afterAll(() => rig.end());

  test('passes: three forks at a time test against the server of one step, none of them starts it', async () => {
    const run = rig.start(['--json', 'run', 'examples/postgres-forks', '--logs', '--driver', 'microvm']);
    expect({ code: await run.ended, stderr: run.stderr() }).toMatchObject({ code: 0 });
    const said = jsonLines(run.stdout()).flatMap(({ kind, key, line }) =>
      kind === 'step_log' && /^server process \d+/.test(String(line)) ? [{ key, line }] : [],
    );
    expect(said.map(({ key }) => key).toSorted()).toEqual(['constraints', 'report', 'rush', 'server']);
    expect(new Set(said.map(({ line }) => line)).size).toBe(1);
  });
});
