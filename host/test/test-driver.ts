import { type ContainerDriver, type ContainerDriverOptions, createContainerDriver } from '../container-driver.ts';
import type { ExecSpec } from '../guest-link.ts';
import type { Machine } from '../machine-driver.ts';
import { type DriverUnderTest, openDriverRig } from './driver-rig.ts';

export type TestDriver = DriverUnderTest<ContainerDriver>;

/** A container driver on a fresh data directory with a tiny image. */
export function openTestDriver(options: Partial<ContainerDriverOptions> = {}): Promise<TestDriver> {
  return openDriverRig((dataDir) =>
    createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0, ...options }),
  );
}

interface RunOutput {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs shell text inside and collects what it says. */
export async function runInside(machine: Machine, script: string, changes: Partial<ExecSpec> = {}): Promise<RunOutput> {
  const process = await machine.guest.exec({
    argv: ['/bin/sh', '-c', script],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' },
    cwd: '/',
    timeoutMs: 20_000,
    ...changes,
  });
  const chunks: Record<'stdout' | 'stderr', Uint8Array[]> = { stdout: [], stderr: [] };
  for await (const { stream, bytes, endOffset } of process.output()) {
    chunks[stream].push(bytes);
    process.acknowledge(endOffset);
  }
  const { exitCode } = await process.exit;
  const text = (stream: 'stdout' | 'stderr') => Buffer.concat(chunks[stream]).toString();
  return { exitCode, stdout: text('stdout'), stderr: text('stderr') };
}
