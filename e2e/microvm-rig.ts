import { join } from 'node:path';
import { seedAccelerator, testKitsDir } from '../host/test/test-kit.ts';
import { type Rig, startRig } from './rig.ts';

/** An installation for `--driver microvm`: QEMU is here already, and known is what it works with. */
export async function startMicrovmRig(): Promise<Rig> {
  const rig = await startRig({ CAISSON_KITS_DIR: testKitsDir });
  await seedAccelerator(join(rig.dataDir, 'host', 'microvm'));
  return rig;
}
