import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
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
// Whatever it waits for, a host has also something else to do.
setInterval(() => {}, 1_000);
let hasTaken = false;
let hasKilled = false;
watchCrashPoints((name) => {
  hasTaken ||= name === 'microvm.fitted-taken';
  if (name !== dieAt) return;
  // Others come by before it does.
  if (scene === 'fitted' && !hasTaken && !name.startsWith('microvm.fitted')) return;
  process.kill(victim === 'host' ? process.pid : JSON.parse(readFileSync(stateFile, 'utf8')).process.pid, 'SIGKILL');
  hasKilled = true;
});
const driver = await open();
const spec = smallSpec('orphan', image, { egress: 'internet' });
const beginning = startCounting();
// One that is killed would keep nothing of what it compiled for the next.
flushCompileCache();
if (scene === 'none') {
  await beginning;
  console.log('ready');
} else {
  const played = beginning.then(play);
  const error = await played.then(
    () => null,
    (error: unknown) => error,
  );
  if (!hasKilled && error !== null) throw error;
  await driver.destroy('orphan');
  process.exit(hasKilled ? 0 : 3);
}

async function startCounting(): Promise<void> {
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
}

async function open(): Promise<MachineDriver> {
  if (values.driver === 'gvisor') return createGvisorDriver({ dataDir });
  const driver = await createEmulatedDriver({ dataDir, clonePoolSize: scene === 'fitted' ? 2 : 0 });
  const before = smallSpec('before', image, { egress: 'internet' });
  while (scene === 'fitted' && (await driver.clonesReady(before)) === 0) await (await driver.create(before)).destroy();
  return driver;
}

async function play(): Promise<void> {
  if (scene === 'snapshot') await driver.memory?.snapshot('orphan', join(dataDir, 'snapshot'));
  if (scene !== 'suspend') return;
  await driver.memory?.suspend('orphan');
  await driver.memory?.wake(spec);
}
