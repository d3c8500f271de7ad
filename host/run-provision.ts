import { AppError } from '@caisson/contracts/app-error';
import type { RunAssignment } from '@caisson/contracts/host-api';
import type { ExecSpec } from './guest-link.ts';
import type { ImageStore, LayerStore, SourceStore } from './layer-store.ts';
import type { Machine, MachineDriver } from './machine-driver.ts';
import { toolsMountPath, toolsNodeArgv } from './tools-layer.ts';

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
  seal(assignment: RunAssignment, machine: Machine): Promise<void>;
  /** Removes whatever the run has on this machine. Idempotent. */
  discard(assignment: RunAssignment): Promise<void>;
}

export interface ProvisionerParts {
  readonly driver: MachineDriver;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly sources: SourceStore;
  /** Directory of the read-only tools; made at first use. */
  readonly tools: () => Promise<string>;
}

export function makeProvisioner(parts: ProvisionerParts): Provisioner {
  const { driver, layers } = parts;
  /** Stack and image environment of live runs, needed again when the disk is sealed. */
  const stacks = new Map<string, readonly string[]>();

  return {
    async adopt(assignment) {
      const machine = await driver.adopt(assignment.capsuleId);
      if (machine !== null) stacks.set(assignment.capsuleId, await readStack(parts, assignment));
      return machine;
    },
    async provision(assignment, { note, signal }) {
      await driver.destroy(assignment.capsuleId);
      const stack = await buildStack(parts, assignment, { note, signal });
      signal.throwIfAborted();
      for (const layer of stack.slice(0, assignment.sourceDigest === null ? 1 : 2)) {
        await layers.hold(layer, assignment.capsuleId);
      }
      stacks.set(assignment.capsuleId, stack);
      const machine = await driver.create({
        capsuleId: assignment.capsuleId,
        layers: layers.directories(stack),
        shape: assignment.shape,
        egress: assignment.egress,
        readOnlyBinds: assignment.work.kind === 'render' ? [{ from: await parts.tools(), to: toolsMountPath }] : [],
        hostname: assignment.capsuleId.slice(-12),
      });
      signal.throwIfAborted();
      return machine;
    },
    async seal(assignment, machine) {
      const stack = stacks.get(assignment.capsuleId);
      if (stack === undefined || assignment.sealAs === null) throw new AppError('snapshot_failed', 'nothing to seal');
      const { upperDir } = await machine.stop();
      await layers.seal(assignment.sealAs, upperDir, stack);
      await this.discard(assignment);
    },
    async discard(assignment) {
      await driver.destroy(assignment.capsuleId);
      const stack = stacks.get(assignment.capsuleId) ?? [];
      for (const layer of stack.slice(0, 2)) await layers.drop(layer, assignment.capsuleId);
      stacks.delete(assignment.capsuleId);
    },
  };
}

/** Layers of the run's disk, top first: the source above the image, or a sealed disk with all below it. */
async function buildStack(
  { layers, images, sources }: ProvisionerParts,
  assignment: RunAssignment,
  { note, signal }: { note: (line: string) => Promise<void>; signal: AbortSignal },
): Promise<readonly string[]> {
  const { base, sourceDigest } = assignment;
  if ('layerId' in base) {
    const stack = await layers.stackOf(base.layerId);
    if (stack === null)
      throw new AppError('snapshot_missing', `the snapshot ${base.layerId} is not on this host any more`);
    return stack;
  }
  const image = await images.resolve(base.image, (line) => void note(line).catch(() => {}), signal);
  if (image.warning !== null) await note(image.warning);
  const below = await layers.stackOf(image.layerId);
  if (below === null)
    throw new AppError('image_unavailable', `the image ${base.image} vanished while it was fetched; run again`);
  return sourceDigest === null ? below : [await sources.layerFor(sourceDigest), ...below];
}

/** The stack of a capsule that is already running, from what is on disk; nothing is fetched. */
async function readStack(parts: ProvisionerParts, assignment: RunAssignment): Promise<readonly string[]> {
  return buildStack(parts, assignment, { note: async () => {}, signal: new AbortController().signal });
}

/** The command of a run as the guest executes it. */
export async function commandOf(machine: Machine, assignment: RunAssignment): Promise<ExecSpec> {
  await machine.guest.mkdir(workspacePath, { parents: true });
  return {
    argv: await argvOf(machine, assignment),
    cwd: workspacePath,
    env: { PATH: defaultPath, HOME: '/root', ...assignment.env },
    timeoutMs: assignment.timeoutMs + assignment.graceMs + hostTimeoutSlackMs,
  };
}

async function argvOf(machine: Machine, { work }: RunAssignment): Promise<readonly [string, ...string[]]> {
  if (work.kind === 'shell') return [await shellOf(machine), '-c', work.text];
  const [program, ...argv] = toolsNodeArgv;
  const slug = work.slug === null ? [] : [work.slug];
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
