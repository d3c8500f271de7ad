import { createHash } from 'node:crypto';
import { chmod, chown, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { cpus as processors } from 'node:os';
import { join } from 'node:path';
import { crashPoint } from '@caisson/contracts/crash-point';
import { isErrno } from './container-errors.ts';
import { exists } from './exists.ts';
import { readBootId } from './layer-record.ts';
import { greet } from './microvm-greeting.ts';
import { runAgentProgram } from './microvm-guest.ts';
import { dropVessel, startVessel, takeDevices, type VesselContext, type VesselShape } from './microvm-vessel.ts';
import { saveTemplateDevices } from './qemu-migration.ts';
import { continueMachine, stopMachine } from './qmp-commands.ts';

/** A machine that booted, has no disk yet and waits to hear who it is: its memory and its devices, for any number of clones. */
export interface Template {
  readonly ramPath: string;
  readonly devicesPath: string;
}

/** Templates of one driver, each made when it is first asked for. */
export interface TemplateStore {
  /** The template of a shape. Several callers wait for one another. Throws `provision_failed` when none can be made. */
  get(shape: VesselShape): Promise<Template>;
}

/** Counts up when templates are made in another way. */
const recipe = 2;
const warmUps = 3;

/**
 * Opens the templates of a driver. What another version of anything made that a template's memory or devices depend on is removed, and
 * so is what an earlier process left half-made.
 */
export async function openTemplates(context: VesselContext): Promise<TemplateStore> {
  const directory = join(context.installation.dataDir, 'templates');
  const version = await versionOf(context);
  await mkdir(directory, { recursive: true, mode: 0o711 });
  for (const name of await readdir(directory))
    if (!name.startsWith(`${version}-`) || name.endsWith('.new'))
      await rm(join(directory, name), { recursive: true, force: true });
  const underWay = new Map<string, Promise<Template>>();
  return {
    async get(shape) {
      const path = join(directory, `${version}-${digestOf(shape)}`);
      const template = { ramPath: join(path, 'ram'), devicesPath: join(path, 'devices') };
      if (await exists(path)) return template;
      const made =
        underWay.get(path) ??
        makeTemplate(context, shape, path)
          .then(() => template)
          .finally(() => underWay.delete(path));
      underWay.set(path, made);
      return made;
    },
  };
}

/** Of this boot of the host alone: what a guest measured of its processor must still hold. */
async function versionOf({ kit, initramfsPath, accelerator }: VesselContext): Promise<string> {
  const bootId = await readBootId().catch(() => '');
  const processor = processors()[0]?.model ?? '';
  return digestOf([recipe, kit.qemuVersion, kit.kernelVersion, initramfsPath, accelerator, processor, bootId]);
}

function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 12);
}

/** Boots a machine whose memory is a file, has it run what every clone will run first, and keeps it. */
async function makeTemplate(context: VesselContext, shape: VesselShape, path: string): Promise<void> {
  const draft = `${path}.new`;
  const ramPath = join(draft, 'ram');
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o711 });
  const ram = await open(ramPath, 'wx', 0o600);
  await ram.truncate(shape.ramBytes).finally(() => ram.close());
  crashPoint('template.begun');
  try {
    await bootTemplate(context, shape, draft);
    await chown(ramPath, 0, 0);
    // QEMU has a user of its own in each machine; what lies in here is a kernel and the agent.
    await chmod(ramPath, 0o444);
    crashPoint('template.saved');
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    // Made by another driver of this directory in the meantime.
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error;
  }
}

async function bootTemplate(context: VesselContext, shape: VesselShape, draft: string): Promise<void> {
  const { initramfsPath } = context;
  const beginning = { kind: 'boot', initramfsPath, words: ['wait'], sharesMemory: true } as const;
  // Nothing waits longer than it must for what everybody then profits from.
  const start = { shape, cpus: shape.cpus, beginning, ramPath: join(draft, 'ram') };
  const vessel = await startVessel(context, { ...start, slot: null });
  try {
    const greeting = greet(vessel, context.bootTimeoutMs);
    await continueMachine(vessel.qemu.qmp);
    const guest = await greeting;
    for (let count = 0; count < warmUps; count++) await runAgentProgram(guest, ['sync'], context.bootTimeoutMs);
    // With its host on the line: a clone whose host is there, too, notices nothing.
    await stopMachine(vessel.qemu.qmp);
    await saveTemplateDevices(vessel.qemu.qmp);
    await takeDevices(vessel, join(draft, 'devices'));
    guest.close();
  } finally {
    await dropVessel(context, vessel);
  }
}
