import { AppError, hasCode, messageOf } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { RunAssignment } from '@caisson/contracts/host-api';
import type { ExecSpec } from './guest-link.ts';
import type { DiskLayers } from './layer-disk.ts';
import type { ImageStore, SourceStore } from './layer-store.ts';
import { removeTree } from './layer-tree.ts';
import type { Machine, MachineDriver, MachineSpec, MemorySnapshots } from './machine-driver.ts';
import { toolsMountPath, toolsNodeArgv, toolsNodeEnv } from './tools-layer.ts';

const processIds = 0x7fff_ffff;
const workspacePath = '/workspace';
const hostTimeoutSlackMs = 5_000;
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Gets the machine a run needs, and gives back what it took. */
export interface Provisioner {
  adopt(assignment: RunAssignment): Promise<Machine | null>;
  /** `note` gets progress for the job's log. Aborting ends it and leaves nothing. */
  provision(
    assignment: RunAssignment,
    options: { note: (line: string) => Promise<void>; signal: AbortSignal },
  ): Promise<Machine>;
  /**
   * Keeps the disk of a run, and its memory if that is asked for, and removes everything else of its capsule, of which `machine` is
   * null when it cannot be adopted. Goes on with what an earlier host began.
   */
  seal(assignment: RunAssignment, machine: Machine | null): Promise<void>;
  /** Throws `snapshot_failed` when no capsule could go on here with the memory kept in a directory. */
  checkMemory(directory: string): Promise<void>;
  /** Removes whatever a capsule has on this machine and lets go of its layers. Idempotent. */
  discard(capsuleId: string): Promise<void>;
  /** Every capsule of which anything is left. */
  list(): Promise<readonly string[]>;
}

interface ProvisionerParts {
  readonly driver: MachineDriver;
  readonly layers: DiskLayers;
  readonly images: ImageStore;
  readonly sources: SourceStore;
  /** Directory of the read-only tools; made at first use. */
  readonly tools: () => Promise<string>;
}

export function makeProvisioner(parts: ProvisionerParts): Provisioner {
  const { driver, layers } = parts;

  async function discard(capsuleId: string): Promise<void> {
    await driver.destroy(capsuleId);
    crashPoint('discard.destroyed');
    await dropLayers(capsuleId);
  }

  async function dropLayers(capsuleId: string): Promise<void> {
    for (const layerId of heldBy(layers, capsuleId)) await layers.drop(layerId, capsuleId);
  }

  /** A capsule that runs, in a directory to be sealed. A host that is killed from here on does it once more. */
  async function keepMemory(layerId: string, machine: Machine | null): Promise<string> {
    if (machine === null) throw new AppError('snapshot_failed', 'the capsule ended before its memory was kept');
    const directory = layers.draft(layerId);
    await memoryOf(driver, 'snapshot_failed').snapshot(machine.capsuleId, directory);
    return directory;
  }

  return {
    adopt: ({ capsuleId }) => driver.adopt(capsuleId),
    async provision(assignment, { note, signal }) {
      await discard(assignment.capsuleId);
      // Before anything is done in vain; elsewhere there may be such snapshots.
      if (assignment.snapshot === 'memory') memoryOf(driver, 'provision_failed');
      if (driver.place !== undefined) await note(`${driver.place}: ${driver.capabilities.runtime}`);
      const stack = await buildStack(parts, assignment, { note, signal });
      signal.throwIfAborted();
      crashPoint('provision.layered');
      const machine = await begin(driver, assignment, {
        capsuleId: assignment.capsuleId,
        layers: layers.directories(stack),
        shape: assignment.shape,
        egress: assignment.egress,
        readOnlyBinds: assignment.work.kind === 'render' ? [{ from: await parts.tools(), to: toolsMountPath }] : [],
        hostname: assignment.capsuleId.slice(-12),
        note: (line) => void note(line).catch(() => {}),
      });
      crashPoint('provision.created');
      signal.throwIfAborted();
      return machine;
    },
    async seal({ sealAs, capsuleId, snapshot }, machine) {
      if (sealAs === null) return;
      // Through the machine where there is one: then nothing has to be looked for on this host.
      const disk = machine ?? driver.remains(capsuleId);
      if ((await layers.stackOf(sealAs)) === null) {
        const stack = await stackHeldBy(layers, capsuleId);
        const directory = snapshot === 'memory' ? await keepMemory(sealAs, machine) : (await disk.stop()).upperDir;
        crashPoint('seal.stopped');
        await layers.seal(sealAs, directory, stack).catch(async (error: unknown) => {
          await removeTree(layers.draft(sealAs));
          throw error;
        });
        crashPoint('seal.sealed');
      }
      await dropLayers(capsuleId);
      crashPoint('seal.dropped');
      if (machine === null) await disk.destroy();
      // Nobody who starts from the disk has to wait for this; what cannot be removed now is removed at the next start.
      else void machine.destroy().catch(() => {});
    },
    checkMemory: (directory) => memoryOf(driver, 'snapshot_failed').check(directory),
    discard,
    async list() {
      return [...new Set([...(await driver.list()), ...layers.holds().map(({ holder }) => holder)])];
    },
  };
}

/** Throws this code where there are no such snapshots. */
function memoryOf(
  { memory, capabilities }: MachineDriver,
  code: 'provision_failed' | 'snapshot_failed',
): MemorySnapshots {
  if (memory !== undefined) return memory;
  throw new AppError(code, `this host (${capabilities.runtime}) cannot keep the memory of a capsule`);
}

/** A new capsule, or one that goes on in the midst of what ran in the one it starts from. */
async function begin(driver: MachineDriver, { base }: RunAssignment, spec: MachineSpec): Promise<Machine> {
  const [directory] = spec.layers;
  if (!isFromMemory(base) || directory === undefined) return driver.create(spec);
  try {
    return await memoryOf(driver, 'snapshot_failed').restore(directory, spec);
  } catch (cause) {
    if (!hasCode(cause, 'snapshot_failed')) throw cause;
    // Nor will it another time: what cannot be used is still there then.
    const why = `what ran in the step it builds in cannot go on here: ${messageOf(cause)}; run the build again`;
    throw new AppError('snapshot_missing', why, { cause });
  }
}

function isFromMemory(base: RunAssignment['base']): boolean {
  return 'layerId' in base && base.snapshot === 'memory';
}

function heldBy(layers: DiskLayers, capsuleId: string): readonly string[] {
  return layers
    .holds()
    .filter(({ holder }) => holder === capsuleId)
    .map(({ layerId }) => layerId);
}

/** The stack of a live capsule, by what it holds: a source has nothing below it and lies on top. */
async function stackHeldBy(layers: DiskLayers, capsuleId: string): Promise<readonly string[]> {
  const held = new Set(heldBy(layers, capsuleId));
  const tops = layers.list().filter(({ meta }) => held.has(meta.layerId));
  const ordered = tops.toSorted((a, b) => Number(b.meta.kind === 'source') - Number(a.meta.kind === 'source'));
  const stacks = await Promise.all(ordered.map(({ meta }) => layers.stackOf(meta.layerId)));
  if (held.size === 0 || stacks.includes(null))
    throw new AppError('snapshot_failed', 'the layers below the disk are gone');
  return stacks.flatMap((stack) => stack ?? []);
}

/** Layers of the run's disk, top first, each held for the capsule: the source above the image, or a sealed disk with all below it. */
async function buildStack(
  { layers, images, sources }: ProvisionerParts,
  { base, sourceDigest, capsuleId }: RunAssignment,
  { note, signal }: { note: (line: string) => Promise<void>; signal: AbortSignal },
): Promise<readonly string[]> {
  const take = async (layerId: string): Promise<readonly string[] | null> => {
    // One that is not held could be collected under its capsule.
    await layers.hold(layerId, capsuleId).catch((error) => {
      if (!hasCode(error, 'snapshot_missing')) throw error;
    });
    return layers.stackOf(layerId);
  };
  if ('layerId' in base) {
    const stack = await take(base.layerId);
    if (stack !== null) return stack;
    throw new AppError(
      'snapshot_missing',
      `the snapshot ${base.layerId} is not on this host any more, or another driver made it; run the build again`,
    );
  }
  const image = await images.resolve(base.image, (line) => void note(line).catch(() => {}), signal);
  if (image.warning !== null) await note(image.warning);
  const below = await take(image.layerId);
  if (below === null)
    throw new AppError('image_unavailable', `the image ${base.image} vanished while it was fetched; run again`);
  if (sourceDigest === null) return below;
  const above = await take(await sources.layerFor(sourceDigest));
  if (above === null) throw new AppError('provision_failed', 'the unpacked source vanished; run again');
  return [...above, ...below];
}

/**
 * The number of a run's one process in its guest. It is known before the process exists, so a host that was killed in between finds it.
 * A guest that goes on from another's memory knows that one's command as well; the fence, which no two runs share, tells them apart.
 */
export function commandProcessId({ base, fence }: Pick<RunAssignment, 'base' | 'fence'>): number {
  return isFromMemory(base) ? 2 + (fence % (processIds - 1)) : 1;
}

/** The command of a run as the guest executes it. */
export async function commandOf(machine: Machine, assignment: RunAssignment): Promise<ExecSpec> {
  await machine.guest.mkdir(workspacePath, { parents: true });
  return {
    processId: commandProcessId(assignment),
    argv: await argvOf(machine, assignment),
    cwd: workspacePath,
    env: {
      PATH: defaultPath,
      HOME: '/root',
      ...(assignment.work.kind === 'render' ? toolsNodeEnv : {}),
      ...assignment.env,
    },
    timeoutMs: assignment.timeoutMs + assignment.graceMs + hostTimeoutSlackMs,
  };
}

async function argvOf(machine: Machine, { work }: RunAssignment): Promise<readonly [string, ...string[]]> {
  if (work.kind === 'shell') return [await shellOf(machine), '-c', work.text];
  const [program, ...argv] = toolsNodeArgv;
  const slug = work.slug === null ? [`--prefer=${work.preferred}`] : [work.slug];
  const entry = `${toolsMountPath}/pipeline/render/render-main.ts`;
  return [program, ...argv, entry, workspacePath, ...slug, '--now', String(work.nowS), '--org', work.organization];
}

async function shellOf(machine: Machine): Promise<string> {
  for (const path of ['/bin/bash', '/usr/bin/bash']) {
    const found = await machine.guest
      .stat(path)
      .then(() => true)
      .catch(() => false);
    if (found) return path;
  }
  return '/bin/sh';
}
