// Run as a process of its own and killed by the test: opens a driver and creates capsules for as long as it lives.
import { createContainerDriver } from '../container-driver.ts';

const [dataDir = '', imageDir = '', mode = 'loop'] = process.argv.slice(2);
const driver = await createContainerDriver({ dataDir, networkPoolSize: 1, blankPoolSize: 3 });
const spec = {
  layers: [imageDir],
  shape: { cpus: 1, memoryBytes: 128 * 1024 * 1024, diskBytes: 1024 ** 3, pids: 64 },
  egress: 'internet',
  readOnlyBinds: [],
  hostname: 'crash',
} as const;

if (mode === 'one') {
  await driver.create({ ...spec, capsuleId: 'kept' });
  process.stdout.write('ready\n');
  await new Promise((done) => setTimeout(done, 60_000));
}
if (mode === 'idle') {
  await driver.blanksReady();
  process.stdout.write('ready\n');
  await new Promise((done) => setTimeout(done, 60_000));
}
process.stdout.write('ready\n');
for (let number = 0; ; number++) {
  const machine = await driver.create({ ...spec, capsuleId: `c${number}` });
  if (number % 2 === 0) await machine.stop();
  await machine.destroy();
}
