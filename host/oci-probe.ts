import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { AppError, messageOf } from '@caisson/contracts/app-error';
import { type ContainerContext, startCapsule } from './container-create.ts';
import { remainsOf } from './container-remains.ts';
import { writeAtomically } from './write-atomically.ts';

/** Counts up when a capsule starts to need something else of the runtime. */
const probeVersion = 2;
const probeId = 'probe';

interface ProbeOptions<Runtime> {
  /** What can be tried, preferred first. */
  readonly runtimes: readonly Runtime[];
  /** How capsules are made with one of them. */
  readonly contextOf: (runtime: Runtime) => ContainerContext;
  /** Name of the file in the data directory that keeps the answer. */
  readonly keptIn: string;
  /** For people: what to do when none can. */
  readonly hint: string;
}

/**
 * Finds the OCI runtime to use by starting a real capsule with each, preferred first. The answer is kept in the data directory for as
 * long as the runtimes, the kernel and the cgroup layout stay the same. Throws `runtime_unavailable` with every runtime's own words.
 */
export async function chooseRuntime<Runtime extends { readonly label: string }>(
  { installation, hierarchy }: Pick<ContainerContext, 'installation' | 'hierarchy'>,
  { runtimes, contextOf, keptIn, hint }: ProbeOptions<Runtime>,
): Promise<Runtime> {
  const path = join(installation.dataDir, keptIn);
  const circumstances = [probeVersion, release(), hierarchy.mode, ...runtimes.map(({ label }) => label)].join(' / ');
  const kept = await readKept(path, circumstances);
  const known = runtimes.find(({ label }) => label === kept);
  if (known) return known;
  const failures: string[] = [];
  for (const runtime of runtimes) {
    const failure = await probe(contextOf(runtime));
    if (failure === null) {
      await writeAtomically(path, `${JSON.stringify({ circumstances, label: runtime.label })}\n`);
      return runtime;
    }
    failures.push(`${runtime.label}: ${failure}`);
  }
  throw new AppError(
    'runtime_unavailable',
    `no OCI runtime can start a capsule here (${hint}). ${failures.join('; ')}`,
  );
}

/** Null when a capsule started and answered, else what went wrong. */
async function probe(context: ContainerContext): Promise<string | null> {
  // One that a killed predecessor left.
  await remainsOf(context, probeId).destroy();
  try {
    const machine = await startCapsule(context, {
      capsuleId: probeId,
      layers: [],
      shape: { cpus: 1, memoryBytes: 64 * 1024 * 1024, diskBytes: 64 * 1024 * 1024, pids: 16 },
      egress: 'none',
      readOnlyBinds: [],
      hostname: probeId,
    });
    await machine.guest.ping();
    await machine.destroy();
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

async function readKept(path: string, circumstances: string): Promise<string | null> {
  try {
    const kept = JSON.parse(await readFile(path, 'utf8'));
    return kept.circumstances === circumstances ? kept.label : null;
  } catch {
    return null;
  }
}
