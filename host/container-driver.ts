import { createHash } from 'node:crypto';
import { access, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import { openCgroup } from './cgroup-capsule.ts';
import { canLimitSwap, readCgroupHierarchy } from './cgroup-hierarchy.ts';
import { adoptCapsule, type ContainerContext, startCapsule } from './container-create.ts';
import { keepAgent, prepareSkeleton } from './container-disk.ts';
import { ignoringMissing, isErrno } from './container-errors.ts';
import { liftSharedLimits } from './container-host-settings.ts';
import { type Installation, layoutOf, openInstallation } from './container-layout.ts';
import { takeDown } from './container-machine.ts';
import { openContainerNetwork } from './container-network.ts';
import { killStarters } from './container-process.ts';
import { type CapsuleState, readState, writeState } from './container-state.ts';
import { buildAgent } from './guest-binary.ts';
import { removeTree } from './layer-tree.ts';
import type { MachineDriver, Remains } from './machine-driver.ts';
import { chooseRuntime } from './oci-probe.ts';

export interface ContainerDriverOptions {
  /** Capsules' disks and state. Its file system must be able to hold an overlay's writable layer (ext4, xfs, btrfs, tmpfs). */
  readonly dataDir: string;
  /** Sockets and mount points of live capsules, for all data directories of this machine. Default `/run/caisson`. */
  readonly runRoot?: string;
  /** Network namespaces kept ready. Default 8. */
  readonly networkPoolSize?: number;
  /** `CIDR` or `CIDR:port` (IPv4) a capsule may reach although it is private or this host. */
  readonly allowedTargets?: readonly string[];
  /** Name servers for capsules (IPv4) instead of the host's own. */
  readonly resolvers?: readonly string[];
  /** The agent's binary; built when missing. */
  readonly agentPath?: string;
}

/** What the container body offers besides the port. */
export interface ContainerDriver extends MachineDriver {
  /** Shown by `caisson doctor` and at start: why names will not resolve inside capsules; null when they will. */
  readonly networkProblem: string | null;
  /** Resolves when the pool of network namespaces is full. */
  networkReady(): Promise<void>;
}

/**
 * Opens the container driver on a data directory; one process at a time may have it open. Capsules of an earlier process stay as they
 * are until `adopt` or `destroy`. Throws `runtime_unavailable` when this machine cannot run containers, saying what it lacks.
 */
export async function createContainerDriver(options: ContainerDriverOptions): Promise<ContainerDriver> {
  requireRoot();
  const runRoot = options.runRoot ?? '/run/caisson';
  const installation = await openInstallation(options.dataDir, runRoot);
  const [hierarchy, skeletonDir, agentPath, maxOpenFiles] = await Promise.all([
    readCgroupHierarchy(),
    prepareSkeleton(options.dataDir),
    prepareAgent(options),
    readMaxOpenFiles(),
  ]);
  if (hierarchy.roots.length === 0) {
    throw new AppError('runtime_unavailable', 'no control groups are mounted; mount cgroup2 at /sys/fs/cgroup');
  }
  const network = await openContainerNetwork({
    installation,
    runRoot,
    poolSize: options.networkPoolSize ?? 8,
    allowed: options.allowedTargets ?? [],
    resolvers: options.resolvers ?? null,
    taken: await slotsInUse(installation),
  });
  await liftSharedLimits(options.dataDir);
  const limitsSwap = await canLimitSwap(hierarchy);
  const parts = { installation, hierarchy, network, skeletonDir, agentPath, maxOpenFiles, limitsSwap, live: new Map() };
  const runtime = await chooseRuntime(parts).catch(async (error: unknown) => {
    await closeDriver(parts).catch(() => {});
    throw error;
  });
  return openDriver({ ...parts, runtime });
}

function openDriver(context: ContainerContext): ContainerDriver {
  const { network, live } = context;
  const starting = new Map<string, Promise<unknown>>();
  let isClosed = false;
  return {
    capabilities: { driver: 'container', runtime: context.runtime.label, memorySnapshots: false },
    networkProblem: network.problem,
    networkReady: () => network.pool.filled(),
    async create(spec) {
      if (starting.has(spec.capsuleId)) throw new AppError('already_exists', `capsule ${spec.capsuleId} is starting`);
      const start = startCapsule(context, spec);
      starting.set(spec.capsuleId, start);
      return start.finally(() => starting.delete(spec.capsuleId));
    },
    adopt: (capsuleId) => adoptCapsule(context, capsuleId),
    remains: (capsuleId) => remainsOf(context, capsuleId),
    list: () => listCapsules(context),
    async destroy(capsuleId) {
      // One that is being created cannot be taken apart at the same time.
      await starting.get(capsuleId)?.catch(() => {});
      const machine = live.get(capsuleId);
      await (machine ?? remainsOf(context, capsuleId)).destroy();
    },
    async close() {
      if (isClosed) return;
      isClosed = true;
      await closeDriver(context);
    },
  };
}

/** Gives back what is only kept ready; with no capsule left, everything else of the installation too but its files. */
async function closeDriver(context: Omit<ContainerContext, 'runtime'>): Promise<void> {
  const { installation, hierarchy, network } = context;
  const isLast = (await listCapsules(context)).length === 0;
  await network.close(isLast);
  if (!isLast) return;
  await rm(installation.runDir, { recursive: true, force: true });
  const groups = hierarchy.roots.map((root) => join(root, installation.cgroupPath));
  await Promise.all(groups.map((group) => ignoringMissing(rmdir(group))));
}

/**
 * A capsule this process does not hold, whatever there is of it. Its network slot is given back only when nothing on disk claims it
 * any more: another capsule may get it at once, and whoever comes for these remains again must not find it there.
 */
function remainsOf(context: Omit<ContainerContext, 'runtime'>, capsuleId: string): Remains {
  const { installation, hierarchy, network } = context;
  const layout = layoutOf(installation, capsuleId);
  const cgroup = openCgroup(hierarchy, layout.cgroupPath);
  const end = async (state: CapsuleState | null, unclaim: () => Promise<void>) => {
    await killStarters(layout);
    await takeDown(layout, cgroup, async () => {});
    await unclaim();
    crashPoint('remains.unclaimed');
    const slot = state?.networkSlot ?? null;
    if (slot !== null) await network.pool.discard(slot);
  };
  return {
    async stop() {
      const state = await readState(layout);
      await end(state, async () => {
        if (state !== null) await writeState(layout, { ...state, networkSlot: null });
      });
      return { upperDir: layout.upperDir };
    },
    async destroy() {
      if (!(await exists(layout.stateDir)) && !(await exists(layout.runDir))) return cgroup.remove();
      await end(await readState(layout), () => removeTree(layout.stateDir));
    },
  };
}

async function listCapsules({
  installation,
  hierarchy,
}: Pick<ContainerContext, 'installation' | 'hierarchy'>): Promise<readonly string[]> {
  const groups = hierarchy.roots.map((root) => join(root, installation.cgroupPath));
  const found = await Promise.all([installation.capsulesDir, installation.runDir, ...groups].map(directoriesIn));
  return [...new Set(found.flat())];
}

async function directoriesIn(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

async function slotsInUse(installation: Installation): Promise<readonly number[]> {
  const capsuleIds = await directoriesIn(installation.capsulesDir);
  const states = await Promise.all(capsuleIds.map((id) => readState(layoutOf(installation, id))));
  return states.flatMap((state) => state?.networkSlot ?? []);
}

async function prepareAgent({ dataDir, agentPath }: ContainerDriverOptions): Promise<string> {
  const path = agentPath ?? (await buildAgent());
  const digest = createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
  return keepAgent(dataDir, path, digest.slice(0, 16));
}

/** The hard limit of this process, as `/proc` spells it. */
async function readMaxOpenFiles(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8');
  return Number(/^Max open files\s+\d+\s+(\d+)/m.exec(limits)?.[1] ?? 1024);
}

function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new AppError('runtime_unavailable', 'the container driver has to be root: start Caisson with sudo');
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
