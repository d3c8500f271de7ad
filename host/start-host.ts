import { randomUUID } from 'node:crypto';
import { mkdir, readFile, statfs } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import type { HostDescription } from '@caisson/contracts/host-api';
import type { HostConfig } from './config.ts';
import { lockDataDir } from './data-dir-lock.ts';
import type { DriverChoice } from './driver-choice.ts';
import { createHost, type Host } from './host.ts';
import { createImageStore } from './image-store.ts';
import { createLayerStore } from './layer-disk.ts';
import type { MachineDriver } from './machine-driver.ts';
import { type OpenedDriver, openDriver } from './open-driver.ts';
import { orUndo } from './or-undo.ts';
import { makeProvisioner } from './run-provision.ts';
import { createSourceStore } from './source-store.ts';
import { clearToolDrafts, createToolsLayer } from './tools-layer.ts';
import { writeAtomically } from './write-atomically.ts';

/** Containers share processors well; a job seldom uses all it may. */
const cpuOvercommit = 4;
const leastMemoryBytes = 4 * 2 ** 30;
const leastDiskBytes = 20 * 2 ** 30;

interface StartHostOptions {
  /** A directory for the host alone; made when missing. */
  readonly dataDir: string;
  readonly config: HostConfig;
  /** The Node binary and the pipeline DSL that renderings use. */
  readonly tools: { readonly nodeBinary: string; readonly pipelineDir: string };
  /** Network namespaces kept ready; a host that soon ends again needs few. Default 8. */
  readonly networkPoolSize?: number;
  /** Most containers kept started, where the configuration leaves it open. Default by the machine's memory. */
  readonly blankPoolSize?: number;
  /** Gets short lines while something takes long before the host is there, and warnings. */
  readonly progress?: (line: string) => void;
}

export interface StartedHost extends Host {
  /** Shown at start: why names will not resolve inside capsules; null when they will. */
  readonly networkProblem: string | null;
  readonly driverChoice: DriverChoice;
  /** Makes sure that `image` and the tools are here; `progress` gets short lines. */
  prepare(image: string, progress: (line: string) => void, signal: AbortSignal): Promise<void>;
}

/** Starts a host on a data directory and takes up whatever an earlier process left there. */
export async function startHost(options: StartHostOptions): Promise<StartedHost> {
  const { dataDir } = options;
  await mkdir(dataDir, { recursive: true });
  const lock = await lockDataDir(dataDir);
  return orUndo(() => start(options, lock.release), lock.release);
}

async function start(options: StartHostOptions, releaseLock: () => Promise<void>): Promise<StartedHost> {
  const opened = await openDriver({ progress: () => {}, ...options });
  return orUndo(
    () => startWith(opened, options, releaseLock),
    () => opened.driver.close(),
  );
}

async function startWith(
  { driver, choice, networkProblem, prepareLayer }: OpenedDriver,
  { dataDir, config, tools, progress: warn = () => {} }: StartHostOptions,
  releaseLock: () => Promise<void>,
): Promise<StartedHost> {
  const layers = await createLayerStore({
    dataDir,
    budgetBytes: config.diskBudgetBytes,
    driver: driver.capabilities.driver,
  });
  const images = await createImageStore({ dataDir, layers, aliases: config.imageAliases });
  const sources = await createSourceStore({ dataDir, layers });
  await clearToolDrafts(dataDir);
  const toolsLayer = onceSucceeded(() => createToolsLayer({ dataDir, ...tools }));
  const provisioner = makeProvisioner({ driver, layers, images, sources, tools: toolsLayer });
  const description = await describe(dataDir, driver, config);
  const host = await createHost({ description, dataDir, driver, layers, sources, provisioner, warn });
  return {
    ...host,
    networkProblem,
    driverChoice: choice,
    async close(options) {
      await host.close(options);
      await releaseLock();
    },
    async prepare(image, progress, signal) {
      const [{ layerId }, toolsDir] = await Promise.all([images.resolve(image, progress, signal), toolsLayer()]);
      const directories = [...layers.directories([layerId]), toolsDir];
      await Promise.all(directories.map((directory) => prepareLayer(directory, progress)));
    },
  };
}

async function describe(dataDir: string, driver: MachineDriver, { memoryBytes }: HostConfig): Promise<HostDescription> {
  const disk = await statfs(dataDir);
  return {
    hostId: await readHostId(dataDir),
    protocol: 1,
    driver: driver.capabilities,
    capacity: {
      cpus: availableParallelism() * cpuOvercommit,
      memoryBytes: memoryBytes ?? Math.max(leastMemoryBytes, totalmem()),
      diskBytes: Math.max(leastDiskBytes, disk.bavail * disk.bsize),
    },
  };
}

/** The host's name for life, made at its first start. */
async function readHostId(dataDir: string): Promise<string> {
  const path = join(dataDir, 'host-id');
  const known = await readFile(path, 'utf8').catch(() => null);
  if (known !== null) return known.trim();
  const hostId = randomUUID();
  await writeAtomically(path, `${hostId}\n`);
  return hostId;
}

/** Remembers the first success; a failure is tried again at the next call. */
function onceSucceeded<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make().catch((error) => {
      made = null;
      throw error;
    });
    return made;
  };
}
