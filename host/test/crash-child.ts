// Run as a process of its own and killed by the test: opens a driver and creates capsules for as long as it lives.
import { createContainerDriver } from '../container-driver.ts';
import { smallSpec } from './small-spec.ts';

const [dataDir = '', imageDir = '', mode = 'loop'] = process.argv.slice(2);
const driver = await createContainerDriver({ dataDir, networkPoolSize: 1, blankPoolSize: 3 });
const spec = (capsuleId: string) => smallSpec(capsuleId, imageDir, { egress: 'internet', hostname: 'crash' });

if (mode === 'one') {
  await driver.create(spec('kept'));
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
  const machine = await driver.create(spec(`c${number}`));
  if (number % 2 === 0) await machine.stop();
  await machine.destroy();
}
