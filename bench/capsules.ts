import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ContainerDriver, createContainerDriver } from '../host/container-driver.ts';
import type { ExecSpec } from '../host/guest-link.ts';
import type { Machine, MachineDriver, MachineSpec } from '../host/machine-driver.ts';
import { smallSpec } from '../host/test/small-spec.ts';
import { makeTinyImage } from '../host/test/tiny-image.ts';

/** A driver on a directory of its own, with an image of two megabytes (busybox). */
export interface DriverRig<Driver extends MachineDriver> {
  readonly driver: Driver;
  readonly dataDir: string;
  readonly imageDir: string;
  spec(capsuleId: string, changes?: Partial<MachineSpec>): MachineSpec;
  end(): Promise<void>;
}

export type Capsules = DriverRig<ContainerDriver>;

export const capsulesNote =
  'Root filesystem: busybox alone (2 MB), the same directory for ours and every baseline; 1 CPU, 128 MiB, 64 pids.';

/** How much is kept ready ahead of need; without `blankPoolSize` as much as the driver decides. */
export interface CapsulesOptions {
  readonly networkPoolSize?: number;
  readonly blankPoolSize?: number;
}

export function openCapsules(options: CapsulesOptions = {}): Promise<Capsules> {
  return openDriverRig((dataDir) => createContainerDriver({ dataDir, networkPoolSize: 0, ...options }));
}

export async function openDriverRig<Driver extends MachineDriver>(
  open: (dataDir: string) => Promise<Driver>,
): Promise<DriverRig<Driver>> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-bench-'));
  const remove = () => rm(dataDir, { recursive: true, force: true });
  try {
    const imageDir = join(dataDir, 'layers', 'tiny', 'diff');
    await makeTinyImage(imageDir);
    const driver = await open(dataDir);
    return {
      driver,
      dataDir,
      imageDir,
      spec: (capsuleId, changes) => smallSpec(capsuleId, imageDir, changes),
      async end() {
        for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
        await driver.close();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

const guestEnv = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };

/** Runs a program inside to its end and returns what it printed; throws unless it exits with 0. */
export async function runInside(machine: Machine, argv: ExecSpec['argv']): Promise<string> {
  const process = await machine.guest.exec({ argv, env: guestEnv, cwd: '/', timeoutMs: 60_000 });
  const parts: Uint8Array[] = [];
  for await (const { bytes, endOffset } of process.output()) {
    parts.push(bytes);
    process.acknowledge(endOffset);
  }
  const { exitCode, signal } = await process.exit;
  process.forget();
  const text = Buffer.concat(parts).toString();
  if (exitCode !== 0) throw new Error(`${argv.join(' ')} ended with ${signal ?? exitCode}: ${text.slice(-200)}`);
  return text;
}

/** Why rows with capsules cannot run here; null when they can. */
export function needsRoot(): string | null {
  return process.getuid?.() === 0 ? null : 'capsules need root; run the bench with sudo';
}
