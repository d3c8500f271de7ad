import { expect, test } from 'vitest';
import { type Capsule, type CapsuleEvent, type CapsuleState, capsuleStates, stepCapsule } from '../capsule.ts';

const nowMs = 9_000;
const capsules: { readonly [S in CapsuleState]: Capsule } = {
  creating: { status: 'creating' },
  running: { status: 'running', startedAtMs: 1_000 },
  stopping: { status: 'stopping', startedAtMs: 1_000 },
  stopped: { status: 'stopped', startedAtMs: 1_000, endedAtMs: 2_000 },
  lost: { status: 'lost', startedAtMs: 1_000, endedAtMs: 2_000 },
};
const ends = { stopped: 'stopped', lost: 'lost' } as const;
const table: Partial<Record<CapsuleState, Partial<Record<CapsuleEvent['kind'], CapsuleState>>>> = {
  creating: { started: 'running', stop: 'stopping', ...ends },
  running: { stop: 'stopping', ...ends },
  stopping: ends,
};
const kinds = ['started', 'stop', 'stopped', 'lost'] as const;
const cells = capsuleStates.flatMap((from) =>
  kinds.map((event) => ({ from, event, to: table[from]?.[event] ?? 'refused' })),
);

test.each(cells)('$from, $event: $to', ({ from, event, to }) => {
  const step = stepCapsule(capsules[from], { kind: event }, nowMs);
  expect(step.ok ? step.state.status : 'refused').toBe(to);
  if (!step.ok) return;
  const kindsOfEffect = step.effects.map(({ kind }) => kind);
  expect(kindsOfEffect).toEqual(to === 'stopping' ? ['stop_capsule'] : to === 'running' ? [] : ['release_capacity']);
  if ('endedAtMs' in step.state)
    expect(step.state).toMatchObject({ endedAtMs: nowMs, startedAtMs: from === 'creating' ? null : 1_000 });
});
