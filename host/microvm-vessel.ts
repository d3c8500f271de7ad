import { randomInt } from 'node:crypto';
import { constants } from 'node:fs';
import { chown, mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { type CapsuleCgroup, openCgroup } from './cgroup-capsule.ts';
import { asAppError } from './container-errors.ts';
import { newVesselId } from './container-layout.ts';
import { isAlive, killStarters, type ProcessRef } from './container-process.ts';
import type { MachineSpec } from './machine-driver.ts';
import { makeCgroup } from './make-cgroup.ts';
import type { MicrovmContext } from './microvm-context.ts';
import { type MicrovmVesselLayout, microvmVesselLayoutOf } from './microvm-layout.ts';
import type { MicrovmState } from './microvm-state.ts';
import { type NetworkSlot, namespacePath } from './network-slot.ts';
import { type QemuBeginning, qemuArguments } from './qemu-arguments.ts';
import { adoptQemu, type QemuProcess, startQemu } from './qemu-process.ts';
import { lastConsoleLines, machineStatus } from './qmp-commands.ts';

/** What it takes to start vessels. */
export type VesselContext = Omit<MicrovmContext, 'templates' | 'clones' | 'live'>;

/** What cannot be changed of a machine once its QEMU runs. */
export interface VesselShape {
  readonly cpus: number;
  readonly ramBytes: number;
  readonly diskPlaces: number;
  readonly hasNetwork: boolean;
}

/** A QEMU behind its walls, with all that it takes of the host, whether or not it is anybody's machine yet. */
export interface MicrovmVessel {
  readonly shape: VesselShape;
  readonly layout: MicrovmVesselLayout;
  readonly cgroup: CapsuleCgroup;
  readonly qemu: QemuProcess;
  /** Resolves when it is dead, with the cause. */
  readonly ended: Promise<string>;
  readonly slot: NetworkSlot | null;
}

interface VesselStart {
  readonly shape: VesselShape;
  /** Processor time, in processors. */
  readonly cpus: number;
  readonly beginning: QemuBeginning;
  /** The file its memory begins with, or for a template: is. */
  readonly ramPath: string | null;
  /** Null for one that never reaches a network, although its card is there. */
  readonly slot?: null;
}

const mebibyte = 2 ** 20;
/** What a guest's kernel takes for itself; what a capsule may use is limited inside, so that shapes mean the same as in a container. */
const kernelRamBytes = 96 * mebibyte;
/** What QEMU takes beside the guest's memory, translated code and cached disk pages included. */
const qemuOverheadBytes = 256 * mebibyte;
const qemuThreads = 256;
/** Descriptors 0 to 2 are the standard streams. */
const kvmFd = 3;
/** Beyond any range of ids that people, services and capsules have. */
const uidRange = { first: 1_000_000_000, count: 500_000_000 } as const;
/** What a QEMU's devices say of themselves is a few hundred kilobytes. */
const devicesBytesMax = 64 * mebibyte;
/** Enough for an image, a source, what a pipeline's packages are, and what a host shows; more is booted by itself. */
const usualPlaces = 8;

/** The shape of a vessel in which a machine of this kind fits. */
export function vesselShapeOf(
  { shape, egress }: Pick<MachineSpec, 'shape' | 'egress'>,
  diskCount: number,
): VesselShape {
  return {
    cpus: Math.max(1, Math.ceil(shape.cpus)),
    ramBytes: Math.ceil(shape.memoryBytes / mebibyte) * mebibyte + kernelRamBytes,
    diskPlaces: Math.max(usualPlaces, diskCount),
    hasNetwork: egress === 'internet',
  };
}

/** Starts a QEMU that waits. On any failure nothing is left of it; throws `provision_failed`. */
export async function startVessel(context: VesselContext, start: VesselStart): Promise<MicrovmVessel> {
  const layout = microvmVesselLayoutOf(context.installation, newVesselId());
  const slot = start.shape.hasNetwork && start.slot !== null ? await context.network.pool.acquire() : null;
  try {
    const qemu = await startIn(context, layout, start, slot);
    crashPoint('microvm.vessel-started');
    const cgroup = openCgroup(context.hierarchy, layout.cgroupPath);
    return { shape: start.shape, layout, cgroup, qemu, ended: watchEnd(qemu), slot };
  } catch (error) {
    await removeFailed(context, layout.vesselId, slot);
    throw asAppError(error, 'provision_failed', 'QEMU could not be started');
  }
}

async function startIn(
  context: VesselContext,
  { runDir, cgroupPath, devicesPath }: MicrovmVesselLayout,
  { shape, cpus, beginning, ramPath }: VesselStart,
  slot: NetworkSlot | null,
): Promise<QemuProcess> {
  const { kit, agentPath, hierarchy, accelerator, tscKhz } = context;
  const uid = uidRange.first + randomInt(uidRange.count);
  await mkdir(runDir, { mode: 0o700 });
  const limits = { memoryBytes: shape.ramBytes + qemuOverheadBytes, cpus, pids: qemuThreads };
  const groupFiles = await makeCgroup(hierarchy, cgroupPath, limits);
  if (ramPath !== null && beginning.kind === 'boot') await chown(ramPath, uid, uid);
  const kvm = accelerator === 'kvm' ? await open('/dev/kvm', constants.O_RDWR) : null;
  try {
    const argv = qemuArguments({ ...shape, accelerator, tscKhz, beginning, kvmFd: kvm && kvmFd });
    const qemu = await startQemu({
      ...{ agentPath, uid, argv, groupFiles, rootDir: kit.rootDir, runDir, ramPath },
      networkNamespace: slot && namespacePath(slot),
      files: kvm ? [kvm.fd] : [],
    });
    await writeFile(devicesPath, '', { mode: 0o600 });
    await chown(devicesPath, uid, uid);
    return qemu;
  } finally {
    await kvm?.close();
  }
}

/** Takes up a vessel of an earlier process; null when its QEMU is dead or does not answer. */
export async function adoptVessel(
  { installation, hierarchy, network }: VesselContext,
  { vesselId, shape, networkSlot }: MicrovmState,
  process: ProcessRef,
): Promise<MicrovmVessel | null> {
  const layout = microvmVesselLayoutOf(installation, vesselId);
  const cgroup = openCgroup(hierarchy, layout.cgroupPath);
  if (!(await cgroup.processes()).includes(process.pid)) return null;
  await cgroup.thaw();
  const qemu = await adoptQemu(process, layout.runDir).catch(() => null);
  const slot = networkSlot === null ? null : network.pool.slot(networkSlot);
  return qemu && { shape, layout, cgroup, qemu, ended: watchEnd(qemu), slot };
}

/** A guest that ended itself leaves QEMU standing; its console then says why, and QEMU goes. */
async function watchEnd(qemu: QemuProcess): Promise<string> {
  let cause: string | null = null;
  const watch = async () => {
    for await (const { name } of qemu.qmp.events()) {
      if (name === 'SHUTDOWN') cause = `its kernel shut down; its console: ${await lastConsoleLines(qemu.qmp, 3)}`;
      else if (name === 'STOP' && (await machineStatus(qemu.qmp)) === 'internal-error')
        cause = 'its processor came to a state from which it cannot go on';
      if (cause !== null && (await isAlive(qemu.ref))) process.kill(qemu.ref.pid, 'SIGKILL');
    }
  };
  // What cannot be asked any more is ending, and that is awaited.
  watch().catch(() => {});
  const end = await qemu.ended;
  return cause === null ? end : `${cause} (${end})`;
}

/** Gives QEMU the devices it is to begin with. */
export async function provideDevices({ layout }: MicrovmVessel, path: string): Promise<void> {
  // Into the file that is there: it is QEMU's own, which a copy would not be.
  await writeFile(layout.devicesPath, await readFile(path));
}

/** Takes what QEMU wrote of its devices to a file of the host's own, on disk for good. Throws `snapshot_failed`. */
export async function takeDevices({ layout }: MicrovmVessel, path: string): Promise<void> {
  const { size } = await stat(layout.devicesPath);
  if (size === 0 || size > devicesBytesMax)
    throw new AppError('snapshot_failed', `QEMU wrote ${size} bytes of devices, which cannot be right`);
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile((await readFile(layout.devicesPath)).subarray(0, devicesBytesMax));
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Removes a vessel that is nobody's machine; where that fails, it is tried again later. */
export async function dropVessel(context: VesselContext, { layout, qemu, slot }: MicrovmVessel): Promise<void> {
  qemu.qmp.close();
  await removeFailed(context, layout.vesselId, slot);
}

async function removeFailed(context: VesselContext, vesselId: string, slot: NetworkSlot | null): Promise<void> {
  try {
    await removeVessel(context, vesselId);
    if (slot) context.network.pool.release(slot, false);
  } catch {
    context.strays.add(vesselId);
  }
}

/** Kills a vessel and removes all of it but its network. Works on any part of one, and again. */
export async function removeVessel(
  { installation, hierarchy }: Pick<VesselContext, 'installation' | 'hierarchy'>,
  vesselId: string,
): Promise<void> {
  const layout = microvmVesselLayoutOf(installation, vesselId);
  const cgroup = openCgroup(hierarchy, layout.cgroupPath);
  await cgroup.killAll(10_000);
  crashPoint('microvm.killed');
  await rm(layout.runDir, { recursive: true, force: true });
  await cgroup.remove();
}

/** `removeVessel` for one of an earlier process, which may have been killed while it started it. */
export async function removeStrayVessel(
  context: Pick<VesselContext, 'installation' | 'hierarchy'>,
  vesselId: string,
): Promise<void> {
  // The program that was to become its QEMU, also before it joined its control group.
  await killStarters([microvmVesselLayoutOf(context.installation, vesselId).runDir]);
  await removeVessel(context, vesselId);
}
