import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { expectUndisturbed, startCounted } from './counted-job.ts';
import { reportMs } from './report.ts';
import { interrupt, type Rig, startRig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterEach(() => rig.stop());
afterAll(() => rig.end());

test('a host of its own does not notice kill -9 of its control plane', async () => {
  const host = await rig.host();
  const first = await rig.up(['--host', host.socket]);
  const number = await startCounted(first.builds);
  const killedMs = performance.now();
  first.signal('SIGKILL');
  await first.ended;
  const second = await rig.up(['--host', host.socket]);
  await second.builds.logged(number, 'lines', 'line 11\n');
  reportMs('kill -9 of the control plane until it shows the log again', killedMs);
  await expectUndisturbed(second.builds, number);
  await interrupt(second, host);
});

test('a build goes on after kill -9 of its host', async () => {
  const first = await rig.host();
  const up = await rig.up(['--host', first.socket]);
  const number = await startCounted(up.builds);
  const killedMs = performance.now();
  first.signal('SIGKILL');
  await first.ended;
  const second = await rig.host();
  reportMs('kill -9 of the host until it listens again', killedMs);
  await expectUndisturbed(up.builds, number);
  await interrupt(up, second);
});

test('a host that is stopped leaves its capsules to the next one', async () => {
  const first = await rig.host();
  const up = await rig.up(['--host', first.socket]);
  const number = await startCounted(up.builds);
  first.signal('SIGINT');
  expect(await first.ended).toBe(0);
  const second = await rig.host();
  await expectUndisturbed(up.builds, number);
  await interrupt(up, second);
});

test('a host that hangs for a while loses nothing', async () => {
  const host = await rig.host();
  const up = await rig.up(['--host', host.socket]);
  const number = await startCounted(up.builds);
  host.signal('SIGSTOP');
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  host.signal('SIGCONT');
  await expectUndisturbed(up.builds, number);
  await interrupt(up, host);
});
