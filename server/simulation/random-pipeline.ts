import type { RunFailureCode } from '@caisson/contracts/host-api';
import type { Draws } from './draws.ts';

/** One step of a random graph; what it needs are places of earlier steps. */
export interface RandomStep {
  readonly key: string;
  readonly buildsIn: number | null;
  readonly needs: readonly number[];
  readonly timeoutS: number | null;
  /** Its memory is kept for those that start from its disk. */
  readonly keepsMemory: boolean;
  readonly script: RunScript;
}

/** What the command of a step does. Written into the command itself, where the simulated host reads it. */
export interface RunScript {
  readonly lines: number;
  readonly lastsMs: number;
  readonly end:
    | { readonly kind: 'exit'; readonly code: number; readonly signal: number | null }
    /** Never by itself. */
    | { readonly kind: 'hang' }
    /** The host cannot carry it out, the first `times` times. */
    | { readonly kind: 'fail'; readonly code: RunFailureCode; readonly times: number };
}

const failureCodes: readonly [RunFailureCode, ...RunFailureCode[]] = [
  ...(['image_unavailable', 'source_invalid', 'provision_failed', 'snapshot_missing', 'snapshot_failed'] as const),
  ...(['out_of_memory', 'disk_full', 'sandbox_lost', 'tools_unavailable'] as const),
];

/** A graph without circles: each step may start from the disk of an earlier one, and wait for others. */
export function randomSteps(draws: Draws): readonly RandomStep[] {
  // More want to start from one disk than its host has room for.
  const isCrowd = draws.chance(0.2, 'crowd');
  const count = isCrowd ? 6 : draws.pick([1, 1, 2, 2, 3, 3, 4, 5], 'steps');
  const parentOf = (index: number) => (isCrowd ? 0 : draws.between(0, index - 1, 'parent'));
  return Array.from({ length: count }, (_, index) => ({
    key: `step-${index + 1}`,
    buildsIn: index > 0 && (isCrowd || draws.chance(0.5, 'builds in')) ? parentOf(index) : null,
    needs: index > 0 && draws.chance(0.3, 'needs') ? [draws.between(0, index - 1, 'needed')] : [],
    keepsMemory: draws.chance(0.4, 'keeps memory'),
    ...timedScript(draws),
  }));
}

function timedScript(draws: Draws): { script: RunScript; timeoutS: number | null } {
  const end = randomEnd(draws);
  const lastsMs = draws.chance(0.9, 'short') ? draws.between(0, 600, 'lasts') : draws.between(600, 6_000, 'lasts');
  const isTimed = end.kind === 'hang' || draws.chance(0.1, 'timed');
  return {
    script: { lines: draws.between(0, 4, 'lines'), lastsMs, end },
    timeoutS: isTimed ? draws.between(1, 3, 'timeout') : null,
  };
}

function randomEnd(draws: Draws): RunScript['end'] {
  const chance = draws.unit('end');
  if (chance < 0.75) return { kind: 'exit', code: 0, signal: null };
  if (chance < 0.83) return { kind: 'exit', code: draws.between(1, 255, 'exit code'), signal: null };
  if (chance < 0.85) return { kind: 'exit', code: 0, signal: 9 };
  if (chance < 0.88) return { kind: 'hang' };
  return { kind: 'fail', code: draws.pick(failureCodes, 'failure'), times: draws.between(1, 3, 'failures') };
}

interface Wanted {
  readonly timeoutMs: number | null;
  /** Whether steps may ask for it. */
  readonly keepsMemory: boolean;
}

/** The pipeline document of these steps, in the dialect of graphs. */
export function irOf(steps: readonly RandomStep[], { timeoutMs, keepsMemory }: Wanted): string {
  const nodes = steps.map(({ key, script, timeoutS, ...step }) => {
    const snapshot = keepsMemory && step.keepsMemory ? 'memory' : undefined;
    return { step: { key, cmd: JSON.stringify(script), timeout_seconds: timeoutS ?? undefined, snapshot } };
  });
  const edges = steps.flatMap(({ buildsIn, needs }, index) => [
    ...(buildsIn === null ? [] : [[buildsIn, index, 'builds_in']]),
    ...needs.filter((needed) => needed !== buildsIn).map((needed) => [needed, index, 'depends_on']),
  ]);
  const timeout_seconds = timeoutMs === null ? undefined : timeoutMs / 1_000;
  return JSON.stringify({ version: '0', default_image: 'minimal', timeout_seconds, graph: { nodes, edges } });
}
