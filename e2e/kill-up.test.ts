import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, test } from 'vitest';
import { countedIr, expectUndisturbed, startCounted } from './counted-job.ts';
import { reportMs } from './report.ts';
import { interrupt, type Rig, startRig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterEach(() => rig.stop());
afterAll(() => rig.end());

test('a build goes on after kill -9 of everything that is one process', async () => {
  const first = await rig.up();
  const number = await startCounted(first.builds);
  const killedMs = performance.now();
  first.signal('SIGKILL');
  await first.ended;
  const second = await rig.up();
  reportMs('kill -9 of up until it serves again', killedMs);
  await expectUndisturbed(second.builds, number);
  await interrupt(second);
});

test('a build goes on after kill -9 of everything with its database', async () => {
  const first = await rig.up();
  const number = await startCounted(first.builds);
  process.kill(await postgresPid(), 'SIGKILL');
  first.signal('SIGKILL');
  await first.ended;
  const second = await rig.up();
  await expectUndisturbed(second.builds, number);
  await interrupt(second);
});

test('a build goes on after kill -9 of its database', async () => {
  const up = await rig.up();
  const number = await startCounted(up.builds);
  process.kill(await postgresPid(), 'SIGKILL');
  await up.builds.logged(number, 'lines', 'line 60\n');
  await expectUndisturbed(up.builds, number);
  await interrupt(up);
});

test('a build passes when it is killed again and again', async () => {
  let up = await rig.up();
  const number = await up.builds.create({ pipeline_ir: countedIr });
  await up.builds.reached(number, 'lines', ['running']);
  for (let kills = 0; kills < 3; kills += 1) {
    up.signal('SIGKILL');
    await up.ended;
    up = await rig.up();
  }
  await expectUndisturbed(up.builds, number);
  await interrupt(up);
});

async function postgresPid(): Promise<number> {
  return Number.parseInt(await readFile(join(rig.dataDir, 'postgres', 'cluster', 'postmaster.pid'), 'utf8'), 10);
}
