import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { openCapsuleNetwork } from './capsule-network.ts';
import { capsuleTurns } from './capsule-turns.ts';
import { readCgroupHierarchy } from './cgroup-hierarchy.ts';
import { beginByActivation } from './container-activate.ts';
import { type BlankPool, createBlankPool, mostBlanks } from './container-blanks.ts';
import { adoptCapsule, type ContainerContext, startCapsule } from './container-create.ts';
import { keepAgent, prepareBlankRoot, prepareSkeleton } from './container-disk.ts';
import { liftSharedLimits } from './container-host-settings.ts';
import { type Installation, newVesselId, openInstallation, vesselLayoutOf } from './container-layout.ts';
import { readStates, remainsOf, removeStrayVessels } from './container-remains.ts';
import { meetVessel, removeVessels, startVessel, type VesselContext } from './container-vessel.ts';
import { createGate } from './gate.ts';
import { buildAgent } from './guest-binary.ts';
import type { GvisorOptions } from './gvisor-body.ts';
import { closeInstallation, listCapsules } from './installation-parts.ts';
import type { MachineDriver, MemorySnapshots } from './machine-driver.ts';
import { chooseRuntime } from './oci-probe.ts';
import { installedRuntimes } from './oci-runtime.ts';
import { orUndo } from './or-undo.ts';
import { type ResidentPrograms, startResidentPrograms } from './resident-programs.ts';
import { createStrays } from './strays.ts';

export interface ContainerDriverOptions {
  /** Capsules' disks and state. Its file system must be able to hold an overlay's writable layer (ext4, xfs, btrfs, tmpfs). */
  readonly dataDir: string;
  /** Sockets and bundles of live capsules, for all data directories of this machine. Default `/run/caisson`. */
  readonly runRoot?: string;
  /** Network namespaces kept ready. Default 8. */
  readonly networkPoolSize?: number;
  /** Most containers kept started without being a capsule yet; 0 starts each on demand. Default by the machine's memory. */
  readonly blankPoolSize?: number;
  /** `CIDR` or `CIDR:port` (IPv4) a capsule may reach although it is private or this host. */
  readonly allowedTargets?: readonly string[];
  /** Name servers for capsules (IPv4) instead of the host's own. */
  readonly resolvers?: readonly string[];
  /** The program inside instead of the agent. */
  readonly agentPath?: string;
  /** Gets lines about what could not be removed yet. */
  readonly warn?: (line: string) => void;
  /** Present: capsules are gVisor's (`runsc`). */
  readonly gvisor?: GvisorOptions;
}

/** Everything a container driver has before it is known which runtime starts its containers. */
export type BodyParts = Omit<ContainerContext, 'begin' | 'meet' | 'isAsleep'> &
  Omit<VesselContext, 'runtime'> & { readonly skeletonDir: string };

/** A container driver by its runtime. */
export interface ContainerBody {
  readonly context: ContainerContext;
  /** The runtime, for people. */
  readonly label: string;
  readonly blanks: BlankPool | null;
  readonly memory: MemorySnapshots | null;
}

/** What the container body offers besides the port. */
export interface ContainerDriver extends MachineDriver {
  /** Shown by `caisson doctor` and at start: why names will not resolve inside capsules; null when they will. */
  readonly networkProblem: string | null;
  /** Resolves when the pool of network namespaces is full. */
  networkReady(): Promise<void>;
  /** Resolves with how many blank vessels are ready, when these are as many as wanted. */
  blanksReady(): Promise<number>;
}

/**
 * Opens the container driver on a data directory; one process at a time may have it open. Capsules of an earlier process stay as they
 * are until `adopt` or `destroy`. Throws `runtime_unavailable` when this machine cannot run containers, saying what it lacks.
 */
export async function createContainerDriver(options: ContainerDriverOptions): Promise<ContainerDriver> {
  const runRoot = options.runRoot ?? '/run/caisson';
  const installation = await openInstallation(options.dataDir, runRoot);
  // Says at once when the run directory leaves no room for the names of sockets.
  vesselLayoutOf(installation, newVesselId());
  const toolPath = await buildAgent();
  const socketPath = join(installation.runDir, 'programs.sock');
  const programs = await startResidentPrograms({ agentPath: toolPath, socketPath });
  return orUndo(() => open(options, { runRoot, installation, toolPath, programs }), programs.close);
}

interface Opening {
  readonly runRoot: string;
  readonly installation: Installation;
  /** The agent as it was built, which has modes for the host. */
  readonly toolPath: string;
  readonly programs: ResidentPrograms;
}

async function open(
  options: ContainerDriverOptions,
  { runRoot, installation, toolPath, programs }: Opening,
): Promise<ContainerDriver> {
  const { run } = programs;
  const [hierarchy, skeletonDir, blankRootDir, agentPath, maxOpenFiles] = await Promise.all([
    readCgroupHierarchy(),
    prepareSkeleton(options.dataDir),
    prepareBlankRoot(installation.runDir),
    prepareAgent(options.dataDir, options.agentPath ?? toolPath),
    readMaxOpenFiles(),
  ]);
  if (hierarchy.roots.length === 0) {
    throw new AppError('runtime_unavailable', 'no control groups are mounted; mount cgroup2 at /sys/fs/cgroup');
  }
  const states = await readStates(installation);
  const strays = createStrays({
    kind: 'container',
    remove: (id) => removeVessels({ hierarchy, run }, [vesselLayoutOf(installation, id)]),
    warn: options.warn ?? (() => {}),
  });
  await removeStrayVessels({ installation, hierarchy, blankRootDir, run, strays }, states);
  const network = await openCapsuleNetwork({
    installation,
    runRoot,
    poolSize: options.networkPoolSize ?? 8,
    allowed: options.allowedTargets ?? [],
    resolvers: options.resolvers ?? null,
    taken: states.flatMap(({ networkSlot }) => networkSlot ?? []),
    run,
  });
  await liftSharedLimits(options.dataDir);
  const parts: BodyParts = {
    ...{ installation, hierarchy, network, skeletonDir, blankRootDir, toolPath, agentPath, maxOpenFiles, run, strays },
    startGate: createGate(availableParallelism() + 1),
    live: new Map(),
    leaving: new Set(),
  };
  const body = await orUndo(
    () => openBody(parts, options),
    () => closeDriver(parts, null),
  );
  return openDriver(body, programs);
}

async function openBody(parts: BodyParts, options: ContainerDriverOptions): Promise<ContainerBody> {
  if (options.gvisor === undefined) return openBlankBody(parts, options);
  const { openGvisorBody } = await import('./gvisor-body.ts');
  return openGvisorBody(parts, options.gvisor);
}

/** Containers of runc or crun, which become capsules when they run already. */
async function openBlankBody(parts: BodyParts, options: ContainerDriverOptions): Promise<ContainerBody> {
  const runtimes = await installedRuntimes(parts.run);
  if (runtimes.length === 0) {
    throw new AppError('runtime_unavailable', 'no OCI runtime is installed: apt-get install runc');
  }
  const contextOf = (vessels: VesselContext, take: BlankPool['take']): ContainerContext => ({
    ...parts,
    begin: beginByActivation(vessels, { skeletonDir: parts.skeletonDir, take }),
    meet: (layout, slot) => meetVessel(parts, layout, slot),
    isAsleep: async () => false,
  });
  const runtime = await chooseRuntime(parts, {
    runtimes,
    contextOf(runtime) {
      const vessels = { ...parts, runtime };
      return contextOf(vessels, (egress) => startVessel(vessels, egress));
    },
    keptIn: 'runtime-probe.json',
    hint: 'on a machine with cgroups v1 or hybrid only runc works: apt-get install runc',
  });
  const vessels = { ...parts, runtime };
  const blanks = openBlanks(vessels, options.blankPoolSize ?? mostBlanks());
  return { context: contextOf(vessels, blanks.take), label: runtime.label, blanks, memory: null };
}

function openBlanks(context: VesselContext, max: number): BlankPool {
  return createBlankPool({
    max,
    start: (egress) => startVessel(context, egress),
    async remove(vessel) {
      vessel.guest.close();
      await removeVessels(context, [vessel.layout]);
      // Nothing ever ran in it.
      if (vessel.slot) context.network.pool.release(vessel.slot, true);
    },
  });
}

function openDriver({ context, label, blanks, memory }: ContainerBody, programs: ResidentPrograms): ContainerDriver {
  const { network } = context;
  let isClosed = false;
  return {
    capabilities: { driver: 'container', runtime: label, memorySnapshots: memory !== null },
    ...(memory === null ? {} : { memory, place: 'on a kernel of gVisor of its own' }),
    networkProblem: network.problem,
    networkReady: () => network.pool.filled(),
    blanksReady: async () => (await blanks?.filled()) ?? 0,
    ...capsuleTurns({
      ...context,
      create: (spec) => startCapsule(context, spec),
      adopt: (capsuleId) => adoptCapsule(context, capsuleId),
      remains: (capsuleId) => remainsOf(context, capsuleId),
    }),
    list: () => listCapsules(context.installation),
    async close() {
      if (isClosed) return;
      isClosed = true;
      await closeDriver(context, blanks);
      await programs.close();
    },
  };
}

/** Gives back what is only kept ready; with no capsule left, everything else of the installation too but its files. */
async function closeDriver(
  context: Pick<ContainerContext, 'installation' | 'hierarchy' | 'network' | 'leaving' | 'strays'>,
  blanks: BlankPool | null,
): Promise<void> {
  const { leaving } = context;
  while (leaving.size > 0) await Promise.all(leaving);
  await blanks?.close();
  await closeInstallation(context);
}

async function prepareAgent(dataDir: string, path: string): Promise<string> {
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
