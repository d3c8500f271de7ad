import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { watchCrashPoints } from '@caisson/contracts/crash-point';
import type { MachineDriver } from '../machine-driver.ts';
import { createGvisorDriver } from './gvisor-test-driver.ts';
import { smallSpec } from './small-spec.ts';
import { createEmulatedDriver } from './test-kit.ts';

/**
 * A host process to be killed: creates one capsule with a process that counts, and says so; or takes it through a scene and kills
 * itself, or its machine's QEMU, at one of the crash points.
 */
const text = { type: 'string', default: '' } as const;
const { values } = parseArgs({
  options: {
    ...{ 'data-dir': text, image: text, 'die-at': text },
    ...{ driver: { type: 'string', default: 'microvm' } },
    ...{ victim: { type: 'string', default: 'host' }, scene: { type: 'string', default: 'none' } },
  },
});
const { 'data-dir': dataDir, image, 'die-at': dieAt, victim, scene } = values;
const stateFile = join(dataDir, 'capsules/orphan/state.json');
watchCrashPoints((name) => {
  if (name !== dieAt) return;
  process.kill(victim === 'host' ? process.pid : JSON.parse(readFileSync(stateFile, 'utf8')).process.pid, 'SIGKILL');
});
const open = values.driver === 'gvisor' ? createGvisorDriver : createEmulatedDriver;
const driver: MachineDriver = await open({ dataDir });
const spec = smallSpec('orphan', image, { egress: 'internet' });
const machine = await driver.create(spec);
const script = 'i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; echo $i; sleep 0.05; done';
const counting = await machine.guest.exec({
  argv: ['/bin/sh', '-c', script],
  env: { PATH: '/bin' },
  cwd: '/',
  processId: 7,
});
// Whoever looks finds that it counts already.
for await (const _ of counting.output()) break;
if (scene === 'none') {
  console.log('ready');
  setInterval(() => {}, 1_000);
} else {
  await play().catch(() => {});
  await driver.destroy('orphan');
  process.exit(0);
}

async function play(): Promise<void> {
  if (scene === 'snapshot') await driver.memory?.snapshot('orphan', join(dataDir, 'snapshot'));
  if (scene !== 'suspend') return;
  await driver.memory?.suspend('orphan');
  await driver.memory?.wake(spec);
}
