import { parseArgs } from 'node:util';
import { watchCrashPoints } from '@caisson/contracts/crash-point';
import { createMicrovmDriver } from '../microvm-driver.ts';

/** A host process to be killed: creates one machine with a process that counts, and says so. */
const text = { type: 'string', default: '' } as const;
const { values } = parseArgs({ options: { 'data-dir': text, 'kits-dir': text, image: text, 'die-at': text } });
const { 'data-dir': dataDir, 'kits-dir': kitsDir, image, 'die-at': dieAt } = values;
watchCrashPoints((name) => {
  if (name === dieAt) process.kill(process.pid, 'SIGKILL');
});
const driver = await createMicrovmDriver({ dataDir, kitsDir, accelerator: 'tcg', networkPoolSize: 0 });
const machine = await driver.create({
  capsuleId: 'orphan',
  layers: [image],
  shape: { cpus: 1, memoryBytes: 128 * 2 ** 20, diskBytes: 2 ** 30, pids: 64 },
  egress: 'internet',
  readOnlyBinds: [],
  hostname: 'orphan',
});
const script = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done';
await machine.guest.exec({ argv: ['/bin/sh', '-c', script], env: { PATH: '/bin' }, cwd: '/', processId: 7 });
console.log('ready');
if (dieAt !== '') await machine.destroy();
setInterval(() => {}, 1_000);
