import { link, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { isRecord } from './is-record.ts';
import type { MicrovmContext } from './microvm-context.ts';
import type { MemoryFiles } from './microvm-memory.ts';
import { readVesselShape } from './microvm-state.ts';
import type { VesselShape } from './microvm-vessel.ts';

/** Where the memory of a machine is kept: the file it began with, what it changed since, and its devices. */
export interface MemoryImage extends MemoryFiles {
  readonly directory: string;
  readonly ramPath: string;
  readonly devicesPath: string;
}

/** The paths of an image in this directory. */
export function memoryImageIn(directory: string): MemoryImage {
  return {
    directory,
    ramPath: join(directory, 'ram'),
    pagesPath: join(directory, 'pages'),
    runsPath: join(directory, 'runs'),
    devicesPath: join(directory, 'devices'),
  };
}

/** Makes an empty directory for an image that will be whole only when it is published; what was begun there before is removed. */
export async function beginImage(directory: string): Promise<MemoryImage> {
  const draft = `${directory}.new`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o711 });
  return memoryImageIn(draft);
}

/** Completes an image and gives it its name, on disk for good: it is there whole or not at all. */
export async function publishImage(
  { kit, accelerator, tscKhz }: MicrovmContext,
  image: MemoryImage,
  { directory, ramPath, shape }: { directory: string; ramPath: string; shape: VesselShape },
): Promise<void> {
  await link(ramPath, image.ramPath);
  await syncFile(image.ramPath);
  const facts = { version: 1, shape, accelerator, tscKhz, qemuVersion: kit.qemuVersion };
  const file = await open(join(image.directory, 'machine.json'), 'w', 0o600);
  await file.writeFile(JSON.stringify(facts));
  await file.sync().finally(() => file.close());
  await syncFile(image.directory);
  await rename(image.directory, directory);
  await syncFile(join(directory, '..'));
}

/** Waits until a file or directory is on disk for good. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path);
  await file.sync().finally(() => file.close());
}

/** Of the processor's frequency a guest has its clock; what is measured anew is never quite the same. */
const tscTolerance = 0.001;

/** The shape of the machine in an image. Throws `snapshot_failed` when it is not whole or cannot go on here. */
export async function readImage(
  { kit, accelerator, tscKhz }: MicrovmContext,
  { directory }: MemoryImage,
): Promise<VesselShape> {
  const text = await readFile(join(directory, 'machine.json'), 'utf8').catch(() => 'null');
  const facts: unknown = JSON.parse(text);
  if (!isRecord(facts) || facts.version !== 1) throw new AppError('snapshot_failed', 'it holds no machine');
  if (facts.accelerator !== accelerator || facts.qemuVersion !== kit.qemuVersion)
    throw new AppError(
      'snapshot_failed',
      `a machine of QEMU ${facts.qemuVersion} (${facts.accelerator}) cannot go on here`,
    );
  if (Math.abs(Number(facts.tscKhz) - tscKhz) > tscKhz * tscTolerance)
    throw new AppError('snapshot_failed', 'a machine cannot go on with a processor of another frequency');
  return readVesselShape(facts.shape);
}
