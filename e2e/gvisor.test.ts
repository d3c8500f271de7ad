import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { gvisorProblem } from '../host/test/gvisor-test-driver.ts';
import { expectNothingLeft } from '../host/test/nothing-left.ts';
import { testKitsDir } from '../host/test/test-kit.ts';
import { runToPass } from './passed-run.ts';
import { type Rig, startRig } from './rig.ts';

const problem = await gvisorProblem();
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

/** Each fork finds the process of the first step by its number and its start, and sees that it counts on. */
const forks = `import { pipeline, sh } from '@caisson/pipeline';
const say = 'echo process $(cat /counter) started at $(cut -d" " -f22 /proc/$(cat /counter)/stat)';
const counter = sh(
  \`(i=0; while :; do i=$((i+1)); echo $i > /dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.05; done) &
echo $! > /counter; until [ -e /dev/shm/count ]; do sleep 0.05; done; \${say}\`,
  { label: 'counter', snapshot: 'memory' },
);
const fork = (label: string) =>
  counter.sh(\`\${say}; a=$(cat /dev/shm/count); until [ $(cat /dev/shm/count) -gt $a ]; do sleep 0.1; done\`, { label });
export default pipeline([fork('one'), fork('two')]);
`;

describe.skipIf(problem !== null)('with gVisor for every job', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await startRig({ CAISSON_KITS_DIR: testKitsDir });
  });
  afterEach(() => expectNothingLeft(join(rig.dataDir, 'host')));
  afterAll(() => rig.end());

  test('the example passes, rendering and all', async () => {
    const lines = await runToPass(rig, 'examples/hello', '--driver', 'gvisor');
    const said = lines.map(({ line }) => line);
    expect(said).toEqual(expect.arrayContaining(['built app with tools 1.0', 'hello from a caisson']));
    expect(said.filter((line) => /on a kernel of gVisor of its own: runsc/.test(line))).toHaveLength(4);
    const proven = await readFile(join(rig.dataDir, 'host', 'gvisor-probe.json'), 'utf8');
    expect(JSON.parse(proven).label).toMatch(/^runsc .* \((systrap|ptrace)\)$/);
  });

  test('what a step left running runs on in each of its forks', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'caisson-e2e-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    await mkdir(join(directory, '.caisson'));
    await writeFile(join(directory, '.caisson', 'forks.ts'), forks);
    const lines = await runToPass(rig, directory, '--driver', 'gvisor');
    const said = lines.map(({ line }) => line).filter((line) => line.startsWith('process '));
    expect(said).toHaveLength(3);
    expect(new Set(said).size).toBe(1);
  });
});
