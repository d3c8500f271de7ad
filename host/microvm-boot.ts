import { randomInt } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { type CapsuleCgroup, openCgroup } from './cgroup-capsule.ts';
import type { CgroupHierarchy } from './cgroup-hierarchy.ts';
import { asAppError, isErrno } from './container-errors.ts';
import type { Installation } from './container-layout.ts';
import type { ContainerNetwork } from './container-network.ts';
import { findProcess, isAlive, waitUntilDead } from './container-process.ts';
import { connectGuest } from './guest-channel.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineSpec, Remains } from './machine-driver.ts';
import { makeCgroup } from './microvm-cgroup.ts';
import { disksOf, type MachineDisk } from './microvm-disk.ts';
import { type MicrovmLayout, microvmLayoutOf } from './microvm-layout.ts';
import { makeMicrovmMachine, removeRunning } from './microvm-machine.ts';
import { type MicrovmState, readMicrovmState, writeMicrovmState } from './microvm-state.ts';
import { type NetworkSlot, namespacePath } from './network-slot.ts';
import { type Accelerator, guestNetwork, qemuArguments } from './qemu-arguments.ts';
import type { QemuKit } from './qemu-kit.ts';
import { adoptQemu, type QemuProcess, startQemu } from './qemu-process.ts';
import { continueMachine, lastConsoleLines, machineStatus } from './qmp-commands.ts';

/** Everything a microvm driver has once, for all its machines. */
export interface MicrovmContext {
  readonly installation: Installation;
  readonly hierarchy: CgroupHierarchy;
  readonly kit: QemuKit;
  readonly agentPath: string;
  readonly initramfsPath: string;
  readonly accelerator: Accelerator;
  readonly tscKhz: number;
  /** How long a machine may take from its first instruction to its agent's greeting. */
  readonly bootTimeoutMs: number;
  /** Network namespaces with a way out, for the QEMU of a machine that may have one. */
  readonly network: ContainerNetwork;
  /** Machines this process holds. */
  readonly live: Map<string, Machine>;
}

const mebibyte = 2 ** 20;
/** What a guest's kernel takes for itself; what a capsule may use is limited inside, so that shapes mean the same as in a container. */
const kernelRamBytes = 96 * mebibyte;
/** What QEMU takes beside the guest's memory, translated code and cached disk pages included. */
const qemuOverheadBytes = 256 * mebibyte;
const qemuThreads = 256;
const adoptTimeoutMs = 10_000;
/** Descriptors 0 to 2 are the standard streams. */
const firstFileFd = 3;
/** Beyond any range of ids that people, services and capsules have. */
const uidRange = { first: 1_000_000_000, count: 500_000_000 } as const;

/** Boots a machine; see `MachineDriver.create`. Throws `already_exists` when anything of that id is here. */
export async function bootMachine(context: MicrovmContext, spec: MachineSpec): Promise<Machine> {
  const layout = microvmLayoutOf(context.installation, spec.capsuleId);
  checkSpec(spec);
  await mkdir(layout.stateDir, { mode: 0o700 }).catch((error: unknown) => {
    if (isErrno(error, 'EEXIST')) throw new AppError('already_exists', `capsule ${spec.capsuleId} exists already`);
    throw asAppError(error, 'provision_failed', 'the machine has no place on disk');
  });
  const cgroup = openCgroup(context.hierarchy, layout.cgroupPath);
  try {
    const qemu = await start(context, layout, spec);
    return await meetAgent(context, { layout, cgroup, qemu, isNew: true });
  } catch (error) {
    await removeRemains(context, layout, cgroup);
    throw asAppError(error, 'provision_failed', `capsule ${spec.capsuleId} could not be started`);
  }
}

/** Both get into the guest's kernel command line, which has no way to quote. */
function checkSpec({ hostname, readOnlyBinds }: MachineSpec): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/.test(hostname))
    throw new AppError('invalid_argument', `${JSON.stringify(hostname)} cannot be a machine's name`);
  for (const { to } of readOnlyBinds)
    if (!/^(\/[A-Za-z0-9_][A-Za-z0-9._-]*)+$/.test(to))
      throw new AppError('invalid_argument', `${JSON.stringify(to)} cannot be a place for a directory of the host`);
}

async function start(context: MicrovmContext, layout: MicrovmLayout, spec: MachineSpec): Promise<QemuProcess> {
  const { kit, agentPath, hierarchy, network } = context;
  const uid = uidRange.first + randomInt(uidRange.count);
  const slot = spec.egress === 'internet' ? await network.pool.acquire() : null;
  const state = await noteMachine(context, layout, { uid, slot });
  await mkdir(layout.runDir, { mode: 0o700 });
  const ramBytes = Math.ceil(spec.shape.memoryBytes / mebibyte) * mebibyte + kernelRamBytes;
  const limits = { memoryBytes: ramBytes + qemuOverheadBytes, cpus: spec.shape.cpus, pids: qemuThreads };
  const [groupFiles, disks] = await Promise.all([
    makeCgroup(hierarchy, layout.cgroupPath, limits),
    disksOf(kit, layout, spec),
  ]);
  const opened = await openFiles(disks, context.accelerator === 'kvm');
  try {
    let fd = firstFileFd;
    const argv = qemuArguments({
      accelerator: context.accelerator,
      tscKhz: context.tscKhz,
      kvmFd: context.accelerator === 'kvm' ? fd++ : null,
      cpus: Math.max(1, Math.ceil(spec.shape.cpus)),
      ramBytes,
      disks: disks.map((disk) => ({ ...disk, chain: disk.chain.map(({ format }) => ({ format, fd: fd++ })) })),
      initramfsPath: context.initramfsPath,
      hasNetwork: slot !== null,
      bootWords: [...bootWords(spec, disks), ...(slot ? networkWords(network.resolvers) : [])],
    });
    return await startQemu({
      ...{ agentPath, uid, argv, groupFiles, rootDir: kit.rootDir, runDir: layout.runDir },
      networkNamespace: slot && namespacePath(slot),
      files: opened.map((file) => file.fd),
      onStarted: (process) => writeMicrovmState(layout, { ...state, process }),
    });
  } finally {
    await Promise.all(opened.map((file) => file.close()));
  }
}

/** From here on whatever the machine takes is found by the next process. */
async function noteMachine(
  { network }: MicrovmContext,
  layout: MicrovmLayout,
  { uid, slot }: { readonly uid: number; readonly slot: NetworkSlot | null },
): Promise<MicrovmState> {
  const { capsuleId } = layout;
  const networkSlot = slot?.number ?? null;
  const state = { version: 1, capsuleId, uid, process: null, networkSlot, isDiskWhole: false } as const;
  try {
    await writeMicrovmState(layout, state);
    return state;
  } catch (error) {
    if (slot) network.pool.release(slot, true);
    throw error;
  }
}

/** What QEMU inherits, in the order of its descriptors. */
async function openFiles(disks: readonly MachineDisk[], usesKvm: boolean): Promise<readonly FileHandle[]> {
  const opened: FileHandle[] = [];
  try {
    if (usesKvm) opened.push(await open('/dev/kvm', constants.O_RDWR));
    for (const { writable, chain } of disks)
      for (const [depth, { path }] of chain.entries())
        opened.push(await open(path, writable && depth === 0 ? constants.O_RDWR : constants.O_RDONLY));
    return opened;
  } catch (error) {
    await Promise.all(opened.map((file) => file.close()));
    throw error;
  }
}

function bootWords({ hostname, shape, readOnlyBinds }: MachineSpec, disks: readonly MachineDisk[]): readonly string[] {
  const layers = disks.filter(({ name }) => name.startsWith('layer')).length;
  const limits = [`pids=${shape.pids}`, `memory=${shape.memoryBytes}`];
  return [`hostname=${hostname}`, ...limits, `layers=${layers}`, ...readOnlyBinds.map(({ to }) => `bind=${to}`)];
}

function networkWords(resolvers: readonly string[]): readonly string[] {
  const { address, gateway } = guestNetwork;
  return [`address=${address}`, `gateway=${gateway}`, ...resolvers.map((resolver) => `resolver=${resolver}`)];
}

interface MeetOptions {
  readonly layout: MicrovmLayout;
  readonly cgroup: CapsuleCgroup;
  readonly qemu: QemuProcess;
  readonly isNew: boolean;
}

/** Lets a new machine run and waits for its agent. Throws `provision_failed` with the guest's last words when none greets. */
async function meetAgent(context: MicrovmContext, { layout, cgroup, qemu, isNew }: MeetOptions): Promise<Machine> {
  const ended = watchEnd(qemu);
  if (isNew) await continueMachine(qemu.qmp);
  const greetingTimeoutMs = isNew ? context.bootTimeoutMs : adoptTimeoutMs;
  const connection = connectGuest(layout.agentSocketPath, { isPort: true, greetingTimeoutMs, signal: qemu.gone });
  const guest = await connection.catch(async (cause: unknown) => {
    const console = await lastConsoleLines(qemu.qmp, 3);
    const what = qemu.gone.aborted ? await ended : `no agent greeted within ${greetingTimeoutMs} ms`;
    const detail = console === '' ? what : `${what}; its console: ${console}`;
    throw new AppError('provision_failed', `the machine did not boot: ${detail}`, { cause });
  });
  const machine = makeMicrovmMachine({
    ...{ layout, cgroup, guest, qemu, ended },
    onDiskWhole: () => changeState(layout, { isDiskWhole: true }),
    releaseNetwork: (isClean) => releaseNetwork(context, layout, isClean),
    onStopped: () => context.live.delete(layout.capsuleId),
  });
  context.live.set(layout.capsuleId, machine);
  return machine;
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

/** Takes up a machine of an earlier process; null when it is dead, was never whole, or its agent does not answer. */
export async function adoptMachine(context: MicrovmContext, capsuleId: string): Promise<Machine | null> {
  const held = context.live.get(capsuleId);
  if (held) return held;
  const layout = microvmLayoutOf(context.installation, capsuleId);
  const cgroup = openCgroup(context.hierarchy, layout.cgroupPath);
  const state = await readMicrovmState(layout);
  if (!state?.process || !(await cgroup.processes()).includes(state.process.pid)) return null;
  await cgroup.thaw();
  const qemu = await adoptQemu(state.process, layout.runDir).catch(() => null);
  if (qemu === null) return null;
  try {
    // One that was only being created had not run yet.
    if ((await machineStatus(qemu.qmp)) !== 'running') throw new AppError('guest_lost', 'it never ran');
    await changeState(layout, { isDiskWhole: false });
    return await meetAgent(context, { layout, cgroup, qemu, isNew: false });
  } catch {
    qemu.qmp.close();
    return null;
  }
}

async function changeState(layout: MicrovmLayout, changes: Partial<MicrovmState>): Promise<void> {
  const state = await readMicrovmState(layout);
  if (state !== null) await writeMicrovmState(layout, { ...state, ...changes });
}

/** Another machine may get the slot at once: whoever removes the remains of this one must not find it there. */
async function releaseNetwork({ network }: MicrovmContext, layout: MicrovmLayout, isClean: boolean): Promise<void> {
  const number = (await readMicrovmState(layout))?.networkSlot ?? null;
  if (number === null) return;
  await changeState(layout, { networkSlot: null });
  network.pool.release(network.pool.slot(number), isClean);
}

/** What there is of a machine that nobody holds; see `MachineDriver.remains`. */
export function remainsOf(context: MicrovmContext, capsuleId: string): Remains {
  const { installation, hierarchy } = context;
  const layout = microvmLayoutOf(installation, capsuleId);
  const cgroup = openCgroup(hierarchy, layout.cgroupPath);
  return {
    async stop() {
      await killStarter(layout);
      await removeRunning(layout, cgroup);
      await releaseNetwork(context, layout, false);
      if ((await readMicrovmState(layout))?.isDiskWhole) return { upperDir: layout.diskDir };
      throw new AppError('snapshot_failed', 'the machine ended before everything it wrote had reached its disk');
    },
    destroy: () => removeRemains(context, layout, cgroup),
  };
}

async function removeRemains(context: MicrovmContext, layout: MicrovmLayout, cgroup: CapsuleCgroup): Promise<void> {
  await killStarter(layout);
  await removeRunning(layout, cgroup);
  await releaseNetwork(context, layout, false);
  await removeTree(layout.stateDir);
}

/** The program that was to become its QEMU names its run directory, also before it joined its control group. */
async function killStarter({ runDir }: MicrovmLayout): Promise<void> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const words = (await readFile(join('/proc', name, 'cmdline'), 'utf8').catch(() => '')).split('\0');
    const starter = words.includes(runDir) ? await findProcess(Number(name)) : null;
    if (starter === null) continue;
    process.kill(starter.pid, 'SIGKILL');
    await waitUntilDead(starter);
  }
}
