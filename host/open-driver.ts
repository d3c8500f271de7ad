import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, messageOf } from '@caisson/contracts/app-error';
import type { HostConfig } from './config.ts';
import { createContainerDriver } from './container-driver.ts';
import { chooseDriver, type DriverChoice, microvmPlaces } from './driver-choice.ts';
import { exists } from './exists.ts';
import type { MachineDriver } from './machine-driver.ts';

interface OpenDriverOptions {
  /** The host's own data directory; the two drivers have theirs in it. */
  readonly dataDir: string;
  readonly config: HostConfig;
  readonly networkPoolSize?: number;
  readonly blankPoolSize?: number;
  /** Gets short lines while something takes long, and warnings. */
  readonly progress: (line: string) => void;
}

/** The driver of a host. */
export interface OpenedDriver {
  readonly driver: MachineDriver;
  readonly choice: DriverChoice;
  /** Why names will not resolve inside capsules; null when they will. */
  readonly networkProblem: string | null;
  /** Gets a directory of the host that capsules will start from ready ahead of the first. */
  prepareLayer(directory: string, progress: (line: string) => void): Promise<void>;
}

const runRoot = '/run/caisson';

/**
 * Opens the driver the configuration asks for, and removes what capsules of the other one left: nobody else would. Where nothing was
 * asked for and containers cannot be had, capsules are emulated machines. Throws `runtime_unavailable`.
 */
export async function openDriver(options: OpenDriverOptions): Promise<OpenedDriver> {
  const { config, progress } = options;
  const { driver: wish, kitsDir } = config;
  const wished = { dataDir: options.dataDir, kitsDir, progress };
  const choice = await chooseDriver({ ...wished, wish });
  if (choice.driver === 'microvm') return openMicrovms(options, choice);
  try {
    return await openContainers(options, choice);
  } catch (error) {
    if (wish !== 'auto' || !hasCode(error, 'runtime_unavailable')) throw error;
    progress(`warning: containers cannot run here (${messageOf(error)}); trying virtual machines`);
    const emulated = await chooseDriver({ ...wished, wish: 'microvm' }).catch(() => {
      throw error;
    });
    return openMicrovms(options, { ...emulated, reason: `containers cannot run here; ${emulated.reason}` });
  }
}

async function openContainers(options: OpenDriverOptions, choice: DriverChoice): Promise<OpenedDriver> {
  const { dataDir, config, networkPoolSize, progress } = options;
  await clearMicrovms(options);
  const { kitsDir } = microvmPlaces({ dataDir, kitsDir: config.kitsDir });
  const blankPoolSize = config.blankCapsules ?? options.blankPoolSize;
  const driver = await createContainerDriver({
    ...{ dataDir, warn: progress, ...networkOf(config) },
    ...(networkPoolSize === undefined ? {} : { networkPoolSize }),
    ...(blankPoolSize === undefined ? {} : { blankPoolSize }),
    ...(choice.driver === 'gvisor' ? { gvisor: { kitsDir, progress } } : {}),
  });
  return { driver, choice, networkProblem: driver.networkProblem, async prepareLayer() {} };
}

async function openMicrovms(options: OpenDriverOptions, choice: DriverChoice): Promise<OpenedDriver> {
  const { dataDir, config, networkPoolSize, progress } = options;
  const accelerator = choice.accelerator ?? 'tcg';
  const clonePoolSize = config.blankCapsules ?? options.blankPoolSize;
  if (accelerator === 'tcg') progress('warning: capsules are emulated machines here, which is much slower');
  await clearContainers(dataDir);
  const { microvmDir, kitsDir } = microvmPlaces({ dataDir, kitsDir: config.kitsDir });
  const { createMicrovmDriver } = await import('./microvm-driver.ts');
  const driver = await createMicrovmDriver({
    ...{ dataDir: microvmDir, kitsDir, accelerator, progress, ...networkOf(config) },
    ...(networkPoolSize === undefined ? {} : { networkPoolSize }),
    ...(clonePoolSize === undefined ? {} : { clonePoolSize }),
  });
  const { networkProblem, prepareLayer } = driver;
  return { driver, choice, networkProblem, prepareLayer };
}

function networkOf({ egressAllow, resolvers }: HostConfig) {
  return { allowedTargets: egressAllow, ...(resolvers === null ? {} : { resolvers }) };
}

async function clearContainers(dataDir: string): Promise<void> {
  if (!(await hasRemains(dataDir))) return;
  await destroyAll(await createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 }));
}

async function clearMicrovms({ dataDir, config }: OpenDriverOptions): Promise<void> {
  const { microvmDir, kitsDir } = microvmPlaces({ dataDir, kitsDir: config.kitsDir });
  if (!(await hasRemains(microvmDir))) return;
  const { createMicrovmDriver } = await import('./microvm-driver.ts');
  // Nothing is booted, so any accelerator will do.
  const idle = { accelerator: 'kvm', networkPoolSize: 0, templates: false } as const;
  await destroyAll(await createMicrovmDriver({ dataDir: microvmDir, kitsDir, ...idle }));
}

async function destroyAll(driver: MachineDriver): Promise<void> {
  for (const capsuleId of await driver.list()) await driver.destroy(capsuleId);
  await driver.close();
}

/** Disks outlive a start of the machine; what runs has a place that a driver removes when it is closed with nothing left. */
async function hasRemains(dataDir: string): Promise<boolean> {
  const disks = await readdir(join(dataDir, 'capsules')).catch(() => []);
  const text = await readFile(join(dataDir, 'installation.json'), 'utf8').catch(() => '{}');
  const runDir = join(runRoot, String(JSON.parse(text).installationId));
  return (await exists(runDir)) || disks.length > 0;
}
