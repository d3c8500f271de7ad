import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ContainerDriver, type ContainerDriverOptions, createContainerDriver } from '../container-driver.ts';
import type { ExecSpec } from '../guest-link.ts';
import type { Machine, MachineSpec } from '../machine-driver.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { makeTinyImage } from './tiny-image.ts';

export interface TestDriver {
  readonly driver: ContainerDriver;
  readonly dataDir: string;
  /** A directory to use as the only layer. */
  readonly imageDir: string;
  /** What `create` takes, with a small shape and no network unless asked for. */
  spec(capsuleId: string, changes?: Partial<MachineSpec>): MachineSpec;
  /** Destroys every capsule, closes the driver, checks that nothing is left and removes the directory. */
  end(): Promise<void>;
}

/** A container driver on a fresh data directory with a tiny image. */
export async function openTestDriver(options: Partial<ContainerDriverOptions> = {}): Promise<TestDriver> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
  const imageDir = join(dataDir, 'layers', 'tiny', 'diff');
  await makeTinyImage(imageDir);
  const driver = await createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0, ...options });
  return {
    driver,
    dataDir,
    imageDir,
    spec: (capsuleId, changes = {}) => ({
      ...smallSpec,
      capsuleId,
      layers: [imageDir],
      hostname: capsuleId,
      ...changes,
    }),
    async end() {
      for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
      await driver.close();
      await expectNothingLeft(dataDir);
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

const smallSpec = {
  shape: { cpus: 1, memoryBytes: 128 * 1024 * 1024, diskBytes: 1024 ** 3, pids: 64 },
  egress: 'none',
  readOnlyBinds: [],
} as const;

export interface RunOutput {
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
