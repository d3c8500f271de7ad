import { join } from 'node:path';
import { openCapsuleNetwork } from './capsule-network.ts';
import { capsuleTurns } from './capsule-turns.ts';
import { readCgroupHierarchy } from './cgroup-hierarchy.ts';
import { type Installation, openInstallation } from './container-layout.ts';
import { buildAgent } from './guest-binary.ts';
import { closeInstallation, listCapsules, listVessels } from './installation-parts.ts';
import type { MachineDriver, MachineSpec } from './machine-driver.ts';
import { adoptMachine, createMachine, remainsOf } from './microvm-boot.ts';
import type { MicrovmContext } from './microvm-context.ts';
import { layerDisk } from './microvm-disk.ts';
import { clearFittedDisks } from './microvm-fitted.ts';
import { prepareInitramfs } from './microvm-initramfs.ts';
import { microvmLayoutOf } from './microvm-layout.ts';
import { fittedKind, mostWarmClones, openClonePool } from './microvm-pool.ts';
import { microvmSnapshots } from './microvm-snapshot.ts';
import { type MicrovmState, readMicrovmState } from './microvm-state.ts';
import { openTemplates } from './microvm-template.ts';
import { removeStrayVessel } from './microvm-vessel.ts';
import type { Accelerator } from './qemu-arguments.ts';
import { prepareQemuKit } from './qemu-kit.ts';
import { runProgram } from './run-program.ts';
import { createStrays } from './strays.ts';

export interface MicrovmDriverOptions {
  /** Machines' disks and state, for this driver alone. */
  readonly dataDir: string;
  /** Where QEMU and the guest kernel are kept, for all data directories that name it. Default `kits` in `dataDir`. */
  readonly kitsDir?: string;
  /** Sockets of live machines, for all data directories of this machine. Default `/run/caisson`. */
  readonly runRoot?: string;
  readonly accelerator: Accelerator;
  /** Network namespaces kept ready. Default 2. */
  readonly networkPoolSize?: number;
  /** `CIDR` or `CIDR:port` (IPv4) a machine may reach although it is private or this host. */
  readonly allowedTargets?: readonly string[];
  /** Name servers for machines (IPv4) instead of the host's own. */
  readonly resolvers?: readonly string[];
  /** How long a machine may take until its agent greets; the default depends on the accelerator. */
  readonly bootTimeoutMs?: number;
  /** Whether machines are clones of one that booted. Default true. */
  readonly templates?: boolean;
  /** Most clones kept ready ahead of need; 0 makes each when it is needed. By the host's memory when not given, and never more. */
  readonly clonePoolSize?: number;
  /** The agent's binary; built when missing. */
  readonly agentPath?: string;
  /** Gets short lines while QEMU is fetched. */
  readonly progress?: (line: string) => void;
}

/** What the microvm body offers besides the port. */
export interface MicrovmDriver extends MachineDriver {
  /** Resolves with how many clones are ready, all, or those fitted for machines like this one, when these are as many as wanted. */
  clonesReady(spec?: MachineSpec): Promise<number>;
  /** The process of a machine this process holds, to be measured; null when there is none. */
  qemuPid(capsuleId: string): number | null;
  /** Why names will not resolve inside machines; null when they will. */
  readonly networkProblem: string | null;
  /** Turns a directory that never changes into a disk, which otherwise the first machine that has it waits for. */
  prepareLayer(directory: string, progress: (line: string) => void): Promise<void>;
}

const bootTimeoutsMs: Readonly<Record<Accelerator, number>> = { kvm: 20_000, hvf: 20_000, tcg: 90_000 };

/**
 * Opens the microvm driver on a data directory; one process at a time may have it open. Machines of an earlier process run on until
 * `adopt` or `destroy`. Throws `runtime_unavailable` when this machine cannot have QEMU.
 */
export async function createMicrovmDriver(options: MicrovmDriverOptions): Promise<MicrovmDriver> {
  return openDriver(await openMicrovms(options));
}

/** Everything the driver's machines share. */
async function openMicrovms(options: MicrovmDriverOptions): Promise<MicrovmContext> {
  const { dataDir, accelerator, kitsDir = join(dataDir, 'kits'), progress, runRoot = '/run/caisson' } = options;
  const installation = await openInstallation(dataDir, runRoot);
  const agentPath = options.agentPath ?? (await buildAgent());
  const [hierarchy, kit, tscKhz] = await Promise.all([
    readCgroupHierarchy(),
    prepareQemuKit({ kitsDir, ...(progress ? { progress } : {}) }),
    accelerator === 'tcg' ? measureTsc(agentPath) : 0,
  ]);
  const initramfsPath = await prepareInitramfs(kit, agentPath);
  const states = await readStates(installation);
  const strays = createStrays({
    kind: 'virtual machine',
    remove: (id) => removeStrayVessel({ installation, hierarchy }, id),
    warn: progress ?? (() => {}),
  });
  await removeStrays({ installation, hierarchy, strays }, states);
  await clearFittedDisks(installation);
  const network = await openCapsuleNetwork({
    ...{ installation, runRoot, run: runProgram },
    poolSize: options.networkPoolSize ?? 2,
    allowed: options.allowedTargets ?? [],
    resolvers: options.resolvers ?? null,
    taken: states.flatMap(({ networkSlot }) => networkSlot ?? []),
  });
  const bootTimeoutMs = options.bootTimeoutMs ?? bootTimeoutsMs[accelerator];
  const vessels = {
    installation,
    hierarchy,
    kit,
    agentPath,
    initramfsPath,
    accelerator,
    tscKhz,
    bootTimeoutMs,
    network,
    strays,
  };
  const templates = options.templates === false ? null : await openTemplates(vessels);
  const context = { ...vessels, templates, clones: null, live: new Map() };
  const clones =
    templates && (await openClonePool(context, Math.min(options.clonePoolSize ?? Infinity, mostWarmClones())));
  return { ...context, clones };
}

/** Of every machine that is known, whoever started it. */
async function readStates(installation: Installation): Promise<readonly MicrovmState[]> {
  const capsuleIds = await listCapsules(installation);
  const states = await Promise.all(capsuleIds.map((id) => readMicrovmState(microvmLayoutOf(installation, id))));
  return states.filter((state) => state !== null);
}

/** Removes every vessel that is no machine's: those an earlier process had started ahead of need, or was about to use. */
async function removeStrays(
  context: Pick<MicrovmContext, 'installation' | 'hierarchy' | 'strays'>,
  states: readonly MicrovmState[],
): Promise<void> {
  const claimed = new Set(states.map(({ vesselId }) => vesselId));
  for (const id of await listVessels(context)) if (!claimed.has(id)) context.strays.add(id);
  await context.strays.retry();
}

function openDriver(context: MicrovmContext): MicrovmDriver {
  const { kit, accelerator, live } = context;
  return {
    capabilities: { driver: 'microvm', runtime: `qemu ${kit.qemuVersion} (${accelerator})`, memorySnapshots: true },
    place: 'in a virtual machine of its own',
    memory: microvmSnapshots(context),
    clonesReady: (spec) => clonesReady(context, spec),
    qemuPid: (capsuleId) => live.get(capsuleId)?.vessel.qemu.ref.pid ?? null,
    networkProblem: context.network.problem,
    async prepareLayer(directory, progress) {
      await layerDisk(kit, directory, progress);
    },
    ...capsuleTurns({
      ...context,
      create: (spec) => createMachine(context, spec),
      adopt: (capsuleId) => adoptMachine(context, capsuleId),
      remains: (capsuleId) => remainsOf(context, capsuleId),
    }),
    list: () => listCapsules(context.installation),
    close: () => closeDriver(context),
  };
}

async function clonesReady({ clones }: MicrovmContext, spec: MachineSpec | undefined): Promise<number> {
  const kind = spec && (await fittedKind(spec));
  return kind === null ? 0 : ((await clones?.filled(kind)) ?? 0);
}

/** With no machine left, nothing of the installation stays but its files. */
async function closeDriver(context: MicrovmContext): Promise<void> {
  await context.clones?.close();
  await closeInstallation(context);
}

async function measureTsc(agentPath: string): Promise<number> {
  const { stdout } = await runProgram([agentPath, 'tsc']);
  return Number(stdout) || 0;
}
