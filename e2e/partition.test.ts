import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ir } from './builds.ts';
import { countedIr, expectUndisturbed, startCounted } from './counted-job.ts';
import { type HostNetwork, openHostNetwork } from './host-network.ts';
import { type Rig, startRig, type Up } from './rig.ts';
import { openSlowRelay, type SlowRelay } from './slow-relay.ts';

// One host, behind a real cable and a relay, and what a control plane makes of a bad line. No fault here lasts as long as a lease.
let rig: Rig;
let network: HostNetwork;
let relay: SlowRelay;
let up: Up;
beforeAll(async () => {
  rig = await startRig();
  network = await openHostNetwork();
  relay = await openSlowRelay(network.where);
  await rig.host({ network });
  up = await rig.up(['--host', relay.where]);
});
afterEach(async () => {
  Object.assign(relay, { delayMs: 0, fromFarPerSecond: 0 });
  await network.packets({});
});
afterAll(async () => {
  await rig.end();
  await relay.end();
  await network.end();
});

/** The command is over by now, and nothing of it has come through. */
async function expectUnheard(number: number): Promise<void> {
  expect((await up.builds.jobs(number)).lines?.state).toBe('running');
}

test('a cable that is out for seven seconds costs nothing', async () => {
  const number = await startCounted(up.builds);
  await network.plug(false);
  await new Promise((resolve) => setTimeout(resolve, 7_000));
  await expectUnheard(number);
  await network.plug(true);
  await expectUndisturbed(up.builds, number);
});

test('seven seconds in which nothing comes back from the host cost nothing', async () => {
  const number = await startCounted(up.builds);
  await network.packets({ fromHost: 'drop' });
  await new Promise((resolve) => setTimeout(resolve, 7_000));
  await expectUnheard(number);
  await network.packets({});
  await expectUndisturbed(up.builds, number);
});

test('a build passes on a line that loses 30 % of the packets and takes two seconds there and back', async () => {
  relay.delayMs = 1_000;
  await network.packets({ toHost: 'drop 30 %', fromHost: 'drop 30 %' });
  const number = await up.builds.create({ pipeline_ir: countedIr });
  await expectUndisturbed(up.builds, number, 55_000);
});

test('a control plane that takes little at a time gets all of it', async () => {
  const sizeBytes = 1_000_000;
  const text = Array.from({ length: 200_000 }, (_, index) => `${index + 1}\n`)
    .join('')
    .slice(0, sizeBytes);
  relay.fromFarPerSecond = 150_000;
  const number = await up.builds.create({ pipeline_ir: ir({ a: [`seq 1 200000 | head -c ${sizeBytes}`] }) });
  expect((await up.builds.ended(number)).build.state).toBe('passed');
  const hash = (what: string) => createHash('sha256').update(what).digest('hex');
  expect(hash(await up.builds.log(number, 'a'))).toBe(hash(text));
});
