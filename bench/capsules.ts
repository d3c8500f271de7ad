import { type ContainerDriver, createContainerDriver } from '../host/container-driver.ts';
import type { ExecSpec } from '../host/guest-link.ts';
import type { Machine } from '../host/machine-driver.ts';
import { type DriverUnderTest, openDriverRig } from '../host/test/driver-rig.ts';

export type Capsules = DriverUnderTest<ContainerDriver>;

export const capsulesNote =
  'Root filesystem: busybox alone (2 MB), the same directory for ours and every baseline; 1 CPU, 128 MiB, 64 pids.';

/** How much is kept ready ahead of need; without `blankPoolSize` as much as the driver decides. */
export interface CapsulesOptions {
  readonly networkPoolSize?: number;
  readonly blankPoolSize?: number;
  readonly gvisor?: { readonly kitsDir: string };
}

export function openCapsules(options: CapsulesOptions = {}): Promise<Capsules> {
  return openDriverRig((dataDir) => createContainerDriver({ dataDir, networkPoolSize: 0, ...options }));
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
