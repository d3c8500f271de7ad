import type { Step } from './step.ts';

export const capsuleStates = ['creating', 'running', 'stopping', 'stopped', 'lost'] as const;
export type CapsuleState = (typeof capsuleStates)[number];

/** One isolated machine. Times are milliseconds since the epoch. */
export type Capsule =
  | { readonly status: 'creating' }
  | { readonly status: 'running'; readonly startedAtMs: number }
  /** Its end was asked for; the host has not confirmed it. */
  | { readonly status: 'stopping'; readonly startedAtMs: number | null }
  | { readonly status: 'stopped'; readonly startedAtMs: number | null; readonly endedAtMs: number }
  /** Its host is gone, and with it any knowledge of it. */
  | { readonly status: 'lost'; readonly startedAtMs: number | null; readonly endedAtMs: number };

export type CapsuleEvent =
  /** The host has it up. */
  | { readonly kind: 'started' }
  | { readonly kind: 'stop' }
  /** The host has taken it down, asked or not, or could not make it. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'lost' };

export type CapsuleEffect =
  /** Have the host take it down. */
  | { readonly kind: 'stop_capsule' }
  /** Its share of the host is free. */
  | { readonly kind: 'release_capacity' };

/** What a capsule does next. Total; `stopped` and `lost` are final. */
export function stepCapsule(capsule: Capsule, event: CapsuleEvent, nowMs: number): Step<Capsule, CapsuleEffect> {
  if (capsule.status === 'stopped' || capsule.status === 'lost') return { ok: false, code: 'illegal_transition' };
  const startedAtMs = capsule.status === 'creating' ? null : capsule.startedAtMs;
  switch (event.kind) {
    case 'started':
      if (capsule.status !== 'creating') return { ok: false, code: 'illegal_transition' };
      return { ok: true, state: { status: 'running', startedAtMs: nowMs }, effects: [] };
    case 'stop':
      if (capsule.status === 'stopping') return { ok: false, code: 'illegal_transition' };
      return { ok: true, state: { status: 'stopping', startedAtMs }, effects: [{ kind: 'stop_capsule' }] };
    case 'stopped':
    case 'lost':
      return {
        ok: true,
        state: { status: event.kind, startedAtMs, endedAtMs: nowMs },
        effects: [{ kind: 'release_capacity' }],
      };
  }
}
