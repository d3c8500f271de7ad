import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ContainerDriver, createContainerDriver } from '../host/container-driver.ts';
import type { ExecSpec } from '../host/guest-link.ts';
import type { Machine, MachineSpec } from '../host/machine-driver.ts';
import { makeTinyImage } from '../host/test/tiny-image.ts';

/** A container driver on a directory of its own, with an image of two megabytes (busybox). */
export interface Capsules {
  readonly driver: ContainerDriver;
  readonly dataDir: string;
  readonly imageDir: string;
  spec(capsuleId: string, changes?: Partial<MachineSpec>): MachineSpec;
  end(): Promise<void>;
}

export const capsulesNote =
  'Root filesystem: busybox alone (2 MB), the same directory for ours and every baseline; 1 CPU, 128 MiB, 64 pids.';

const smallSpec = {
  shape: { cpus: 1, memoryBytes: 128 * 2 ** 20, diskBytes: 2 ** 30, pids: 64 },
  egress: 'none',
  readOnlyBinds: [],
} as const;

/** How much is kept ready ahead of need; without `blankPoolSize` as much as the driver decides. */
export interface CapsulesOptions {
  readonly networkPoolSize?: number;
  readonly blankPoolSize?: number;
}

export async function openCapsules(options: CapsulesOptions = {}): Promise<Capsules> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-bench-'));
  try {
    const imageDir = join(dataDir, 'layers', 'tiny', 'diff');
    await makeTinyImage(imageDir);
    const driver = await createContainerDriver({ dataDir, networkPoolSize: 0, ...options });
    return {
      driver,
      dataDir,
      imageDir,
      spec: (capsuleId, changes = {}) => ({
        ...smallSpec,
        ...{ capsuleId, layers: [imageDir], hostname: capsuleId },
        ...changes,
      }),
      async end() {
        for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
        await driver.close();
        await rm(dataDir, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await rm(dataDir, { recursive: true, force: true });
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
