import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { jsonLines } from './program.ts';
import { expectCleared, type Rig, startRig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
// Each command starts a control plane and a host of its own, so nothing may be left after any of them.
afterEach(() => expectCleared(rig.dataDir));
afterAll(() => rig.end());

/** A folder whose pipeline `demo` is this expression of the DSL. */
async function folderWith(steps: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'caisson-demo-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, '.caisson'));
  const text = `import { pipeline, sh } from '@caisson/pipeline';
export default [{ slug: 'demo', name: 'Demo', pipeline: pipeline([${steps}]) }];
`;
  await writeFile(join(folder, '.caisson', 'pipeline.ts'), text);
  return folder;
}

test('the example passes through the launcher and shows every step', async () => {
  const run = rig.start(['run', 'examples/hello'], { launcher: true });
  expect({ code: await run.ended, stderr: run.stderr() }).toMatchObject({ code: 0 });
  for (const step of ['install', 'app', 'docs', 'join']) expect(run.stdout()).toMatch(new RegExp(`✓ ${step} passed`));
  expect(run.stdout()).toMatch(/passed in .* \(4 passed\)/);
  expect(run.stdout()).not.toContain('found what install left');
});

test('as JSON every line is an event, with the logs of all steps when asked for', async () => {
  const run = rig.start(['--json', 'run', 'examples/hello', '--logs']);
  expect(await run.ended).toBe(0);
  const events = jsonLines(run.stdout());
  expect(events).toHaveLength(run.stdout().trim().split('\n').length);
  expect(events[0]).toMatchObject({ kind: 'build_accepted', build: { org: 'local', pipeline: 'hello' } });
  expect(events.at(-1)).toMatchObject({ kind: 'build_end', state: 'passed', exit_code: 0 });
  for (const key of ['install', 'app', 'docs', 'join']) {
    const kinds = events.filter((event) => event.key === key).map(({ kind }) => kind);
    expect(kinds).toEqual(expect.arrayContaining(['step_queued', 'step_start', 'step_end']));
  }
  const lines = events.filter(({ kind }) => kind === 'step_log').map(({ line }) => line);
  expect(lines).toEqual(expect.arrayContaining(['built app with tools 1.0', 'hello from a caisson']));
});

test('a step that fails is shown with its log, and the exit code says so', async () => {
  const folder = await folderWith("sh('echo all is lost >&2; exit 3', { label: 'breaks' })");
  const run = rig.start(['run', folder]);
  expect(await run.ended).toBe(1);
  expect(run.stdout()).toContain('all is lost');
  expect(run.stdout()).toMatch(/✗ breaks.*3/);
});

test('a soft path fails and the rest goes on with --keep-going', async () => {
  const run = rig.start(['--json', 'run', 'examples/monorepo', '--keep-going']);
  expect(await run.ended).toBe(1);
  const ends = jsonLines(run.stdout()).filter(({ kind }) => kind === 'step_end');
  const states = Object.fromEntries(ends.map(({ key, state }) => [key, state]));
  expect(Object.keys(states)).toHaveLength(15);
  expect(states).toMatchObject({
    legacy: 'failed',
    'legacy-report': 'skipped',
    integration: 'passed',
    announce: 'passed',
  });
  expect(Object.values(states).filter((state) => state === 'passed')).toHaveLength(13);
});

test('Ctrl-C cancels the build and leaves nothing', async () => {
  const folder = await folderWith(
    "sh('trap \"\" TERM; echo deaf; sleep 600', { label: 'deaf' }), sh('sleep 600', { label: 'other' })",
  );
  const run = rig.start(['run', folder, '--logs']);
  await run.said('deaf');
  await run.said('other started');
  const startedMs = performance.now();
  run.signal('SIGINT');
  expect(await run.ended).toBe(130);
  expect(run.stdout()).toContain('canceled');
  expect(performance.now() - startedMs).toBeLessThan(20_000);
});

test('a pipeline file with a mistake is refused with its place', async () => {
  const folder = await folderWith('sh(42)');
  const run = rig.start(['run', folder]);
  expect(await run.ended).toBe(7);
  expect(run.stderr()).toMatch(/\.caisson\/pipeline\.ts:2/);
});
