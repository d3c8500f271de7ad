import { mkdir, readFile, rm } from 'node:fs/promises';
import { platform, release } from 'node:os';
import { join } from 'node:path';
import { AppError, messageOf } from '@caisson/contracts/app-error';
import { isUsable } from './exists.ts';
import { withFileLock } from './image-lock.ts';
import { isRecord } from './is-record.ts';
import { readBootId } from './layer-record.ts';
import { createMicrovmDriver, type MicrovmDriverOptions } from './microvm-driver.ts';
import type { Accelerator } from './qemu-arguments.ts';
import { prepareQemuKit, type QemuKit } from './qemu-kit.ts';
import { writeAtomically } from './write-atomically.ts';

/** What became of a guest that was booted with one accelerator. */
interface AcceleratorTrial {
  readonly accelerator: Accelerator;
  readonly works: boolean;
  /** Why not, in words of QEMU or of the guest. */
  readonly detail: string;
  /** From nothing to the first answer of the agent; null when none came. */
  readonly bootMs: number | null;
}

/** The accelerator to use, the first that works, and every trial on the way to it. */
interface AcceleratorChoice {
  readonly accelerator: Accelerator;
  readonly trials: readonly AcceleratorTrial[];
}

type ProbeOptions = Pick<MicrovmDriverOptions, 'runRoot' | 'agentPath' | 'progress'> & {
  /** The answer is kept here; made when missing. */
  readonly dataDir: string;
  readonly kitsDir: string;
};

/** Counts up when machines start to need something else of an accelerator. */
const probeVersion = 2;
/** Where an accelerator works at all, a guest boots in a fraction of this. */
const hardwareTimeoutMs = 10_000;
const emulationTimeoutMs = 90_000;

/**
 * Finds the accelerator by booting a real guest with each, fastest first: a device that opens proves nothing. Each has a time limit.
 * Every answer is kept for as long as QEMU, the guest's kernel and this boot of the host are the same. Throws `runtime_unavailable`
 * with what every one said when not even emulation works.
 */
export async function chooseAccelerator(options: ProbeOptions): Promise<AcceleratorChoice> {
  const trials = await tryUntilOneWorks(options, await candidates());
  const accelerator = workingOne(trials);
  if (accelerator !== null) return { accelerator, trials };
  const said = trials.map(({ accelerator, detail }) => `${accelerator}: ${detail}`).join('; ');
  throw new AppError('runtime_unavailable', `no micro-virtual machine boots on this host. ${said}`);
}

/** The same without emulation: null when there is no other, or none works. `trials` tells why. */
export async function chooseHardware(
  options: ProbeOptions,
): Promise<{ readonly accelerator: Accelerator | null; readonly trials: readonly AcceleratorTrial[] }> {
  const hardware = (await candidates()).filter((candidate) => candidate !== 'tcg');
  const trials = hardware.length === 0 ? [] : await tryUntilOneWorks(options, hardware);
  const accelerator = workingOne(trials);
  return { accelerator: accelerator === 'tcg' ? null : accelerator, trials };
}

/** Tries those of which nothing is known yet, in order. */
async function tryUntilOneWorks(
  options: ProbeOptions,
  wanted: readonly Accelerator[],
): Promise<readonly AcceleratorTrial[]> {
  const kit = await prepareQemuKit(options);
  const circumstances = await describeCircumstances(kit);
  const path = join(options.dataDir, 'accelerator-probe.json');
  const isKnown = (trials: readonly AcceleratorTrial[]) =>
    workingOne(trials) !== null || wanted.every((one) => trials.some(({ accelerator }) => accelerator === one));
  const kept = await readKept(path, circumstances);
  if (isKnown(kept)) return kept;
  await mkdir(options.dataDir, { recursive: true });
  const { signal } = new AbortController();
  return withFileLock(join(options.dataDir, 'accelerator-probe.lock'), signal, async () => {
    const trials = [...(await readKept(path, circumstances))];
    for (const accelerator of wanted) {
      if (isKnown(trials)) break;
      if (trials.some((trial) => trial.accelerator === accelerator)) continue;
      options.progress?.(
        `trying whether a virtual machine boots with ${accelerator}, once after each start of this host`,
      );
      trials.push(await tryAccelerator(options, accelerator));
    }
    // When not even emulation works, something else is the matter, and may not be the next time.
    if (trials.some(({ accelerator, works }) => accelerator === 'tcg' && !works)) return trials;
    await writeAtomically(path, `${JSON.stringify({ circumstances, trials }, null, 2)}\n`);
    return trials;
  });
}

function workingOne(trials: readonly AcceleratorTrial[]): Accelerator | null {
  return trials.find(({ works }) => works)?.accelerator ?? null;
}

/** One line for people, e.g. for `caisson doctor`. */
export function describeChoice({ accelerator, trials }: AcceleratorChoice): string {
  const bootMs = trials.find(({ works }) => works)?.bootMs;
  const slower = accelerator === 'tcg' ? ', which is much slower' : '';
  return [...describeFailures(trials), `using ${names[accelerator]}${slower}; a guest booted in ${bootMs} ms`].join(
    '; ',
  );
}

/** What does not work although it is there, and why. */
export function describeFailures(trials: readonly AcceleratorTrial[]): readonly string[] {
  const failed = trials.filter(({ works }) => !works);
  return failed.map((trial) => `${names[trial.accelerator]} is present, but a guest does not boot (${trial.detail})`);
}

const names = { kvm: 'KVM', hvf: 'Hypervisor.framework', tcg: 'emulation (TCG)' } as const;

async function candidates(): Promise<readonly Accelerator[]> {
  if (platform() === 'darwin') return ['hvf', 'tcg'];
  return (await isUsable('/dev/kvm')) ? ['kvm', 'tcg'] : ['tcg'];
}

/** In an installation of its own, so that a live host is not in the way; what a killed predecessor left there goes first. */
async function tryAccelerator(options: ProbeOptions, accelerator: Accelerator): Promise<AcceleratorTrial> {
  const dataDir = join(options.dataDir, 'accelerator-probe');
  const bootTimeoutMs = accelerator === 'tcg' ? emulationTimeoutMs : hardwareTimeoutMs;
  try {
    const driver = await createMicrovmDriver({ ...options, dataDir, accelerator, bootTimeoutMs, templates: false });
    await driver.destroy(probeSpec.capsuleId);
    try {
      const startedAtMs = performance.now();
      const machine = await driver.create(probeSpec);
      await machine.guest.ping();
      const bootMs = Math.round(performance.now() - startedAtMs);
      return { accelerator, works: true, detail: '', bootMs };
    } finally {
      await driver.destroy(probeSpec.capsuleId);
      await driver.close();
      await rm(dataDir, { recursive: true, force: true });
    }
  } catch (error) {
    return { accelerator, works: false, detail: messageOf(error), bootMs: null };
  }
}

const probeSpec = {
  capsuleId: 'probe',
  layers: [],
  shape: { cpus: 1, memoryBytes: 64 * 2 ** 20, diskBytes: 64 * 2 ** 20, pids: 16 },
  egress: 'none',
  readOnlyBinds: [],
  hostname: 'probe',
} as const;

async function describeCircumstances({ qemuVersion, kernelVersion }: QemuKit): Promise<string> {
  const bootId = await readBootId().catch(() => '');
  return [probeVersion, qemuVersion, kernelVersion, release(), bootId].join(' / ');
}

async function readKept(path: string, circumstances: string): Promise<readonly AcceleratorTrial[]> {
  const text = await readFile(path, 'utf8').catch(() => '{}');
  try {
    const kept: unknown = JSON.parse(text);
    if (!isRecord(kept) || kept.circumstances !== circumstances || !Array.isArray(kept.trials)) return [];
    return kept.trials.filter(isTrial);
  } catch {
    return [];
  }
}

function isTrial(value: unknown): value is AcceleratorTrial {
  if (!isRecord(value) || typeof value.works !== 'boolean' || typeof value.detail !== 'string') return false;
  return ['kvm', 'hvf', 'tcg'].includes(String(value.accelerator));
}
