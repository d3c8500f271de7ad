import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { Installation } from './container-layout.ts';
import type { MachineSpec } from './machine-driver.ts';
import type { WaitingClone } from './microvm-clone.ts';
import type { MicrovmContext } from './microvm-context.ts';
import { disksOf } from './microvm-disk.ts';
import { runAgentProgram } from './microvm-guest.ts';
import { guestWords } from './microvm-words.ts';
import { orUndo } from './or-undo.ts';
import { insertDisks } from './qemu-disks.ts';
import { continueMachine, stopMachine } from './qmp-commands.ts';

/** What machines have in common for which one clone can stand ready: everything but who they are. */
export type MachineKind = Pick<MachineSpec, 'layers' | 'shape' | 'egress' | 'readOnlyBinds'>;

/** What most commands begin with, as far as an image has it; a look at a file comes before them. */
const warmUp = ['/bin/sh', '-c', 'test -x /bin/bash && /bin/bash -c :; /bin/true'];
const warmUps = 3;
/** An image may hold anything. */
const warmUpTimeoutMs = 10_000;

/** Removes the disks an earlier process had made for clones. */
export async function clearFittedDisks({ dataDir }: Installation): Promise<void> {
  const directory = join(dataDir, 'fitted');
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: 0o700 });
}

/** Makes a clone of a template a machine of a kind, all but its name, and has it stand. */
export async function fit(context: MicrovmContext, clone: WaitingClone, machine: MachineKind): Promise<WaitingClone> {
  const { kit, agentPath, network, installation } = context;
  const { layout, qemu } = clone.vessel;
  const diskDir = join(installation.dataDir, 'fitted', layout.vesselId);
  const prepare = async () => {
    const { disks, layerCount } = await disksOf(kit, { diskDir }, machine);
    crashPoint('microvm.fitted-disk-made');
    await insertDisks({ ...layout, agentPath, qmp: qemu.qmp, disks });
    await continueMachine(qemu.qmp);
    const guest = await clone.guest;
    const resolvers = machine.egress === 'internet' ? network.resolvers : null;
    await guest.identify(guestWords({ spec: { ...machine, hostname: 'caisson' }, layerCount, resolvers }));
    for (let count = 0; count < warmUps; count++) {
      await runAgentProgram(guest, ['warm-up', ...warmUp], warmUpTimeoutMs);
      await guest.stat('/');
    }
    await stopMachine(qemu.qmp);
    crashPoint('microvm.fitted');
    return { ...clone, diskDir };
  };
  return orUndo(prepare, () => rm(diskDir, { recursive: true, force: true }));
}
