import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type HostView, type PlaceRequest, place, type Resources } from '../place.ts';

const room = (cpus: number, memoryBytes = 8_000, diskBytes = 100_000): Resources => ({ cpus, memoryBytes, diskBytes });
const host = (hostId: string, fields: Partial<HostView> = {}): HostView => {
  return { hostId, status: 'online', capacity: room(4), used: room(0, 0, 0), memorySnapshots: false, ...fields };
};
const request: PlaceRequest = {
  ...room(2, 4_000, 10_000),
  snapshotHostIds: null,
  copyHostIds: [],
  needsMemorySnapshots: false,
};

test('takes the host with the largest free share, then the smaller id', () => {
  expect(place([host('b'), host('a')], request)).toEqual({ ok: true, hostId: 'a' });
  expect(place([host('a', { used: room(1, 0, 0) }), host('b')], request)).toEqual({ ok: true, hostId: 'b' });
  expect(place([host('a', { used: room(0, 1, 0) }), host('b')], request)).toEqual({ ok: true, hostId: 'b' });
  const large = host('large', { capacity: room(16), used: room(8, 0, 0) });
  expect(place([large, host('small', { used: room(1, 0, 0) })], request)).toEqual({ ok: true, hostId: 'large' });
});

test.each([
  ['processors', room(3, 0, 0)],
  ['memory', room(0, 5_000, 0)],
  ['disk', room(0, 0, 95_000)],
])('waits while %s are taken', (_name, used) => {
  expect(place([host('a', { used })], request)).toMatchObject({ ok: false, reason: 'no_capacity' });
});

test('waits for a host when there is none, or none is large enough', () => {
  expect(place([], request)).toMatchObject({ reason: 'no_host' });
  expect(place([host('a', { status: 'draining' }), host('b', { status: 'lost' })], request)).toMatchObject({
    reason: 'no_host',
  });
  const answer = place([host('a', { capacity: room(1) })], request);
  expect(answer).toMatchObject({ reason: 'no_host', message: expect.stringContaining('asks for 2 cpus') });
});

test('follows the disk it starts from, onto a draining host too', () => {
  const hosts = [host('a'), host('b', { status: 'draining', used: room(1, 0, 0) })];
  expect(place(hosts, { ...request, snapshotHostIds: ['b'] })).toEqual({ ok: true, hostId: 'b' });
  expect(place(hosts, { ...request, snapshotHostIds: ['c'] })).toMatchObject({ reason: 'snapshot_host_gone' });
  expect(place(hosts, { ...request, snapshotHostIds: [] })).toMatchObject({ reason: 'snapshot_host_gone' });
  expect(place([host('a', { status: 'lost' })], { ...request, snapshotHostIds: ['a'] })).toMatchObject({
    reason: 'snapshot_host_gone',
  });
  expect(place([host('a', { used: room(4, 0, 0) }), host('b')], { ...request, snapshotHostIds: ['a'] })).toMatchObject({
    reason: 'no_capacity',
  });
});

test('has the disk copied only when no host that has it has room, to an online one that has', () => {
  const busy = host('a', { used: room(4, 0, 0) });
  const from = { ...request, snapshotHostIds: ['a'], copyHostIds: ['b', 'c'] };
  const other = host('c', { used: room(1, 0, 0) });
  expect(place([host('a', { used: room(2, 0, 0) }), host('b')], from)).toEqual({ ok: true, hostId: 'a' });
  expect(place([busy, host('b'), other], from)).toEqual({ ok: true, hostId: 'b' });
  expect(place([busy, host('b', { status: 'draining' }), other], from)).toEqual({ ok: true, hostId: 'c' });
  expect(place([busy, host('d')], from)).toMatchObject({ reason: 'no_capacity' });
  expect(place([busy, host('b', { used: room(3, 0, 0) })], from)).toMatchObject({ reason: 'no_capacity' });
  expect(place([host('a', { status: 'lost' }), host('b')], from)).toEqual({ ok: true, hostId: 'b' });
  const memory = { ...from, needsMemorySnapshots: true };
  expect(place([busy, host('b')], memory)).toMatchObject({ reason: 'no_capacity' });
  expect(place([busy, host('b', { memorySnapshots: true })], memory)).toEqual({ ok: true, hostId: 'b' });
});

test('goes only where a snapshot can hold memory when one has to, and says when that is nowhere', () => {
  const memory = { ...request, needsMemorySnapshots: true };
  const able = host('b', { memorySnapshots: true, used: room(1, 0, 0) });
  expect(place([host('a'), able], memory)).toEqual({ ok: true, hostId: 'b' });
  expect(place([host('a'), able], request)).toEqual({ ok: true, hostId: 'a' });
  const busy = host('b', { memorySnapshots: true, used: room(4, 0, 0) });
  expect(place([host('a'), busy], memory)).toMatchObject({ reason: 'no_capacity' });
  const nowhere = { reason: 'no_host', message: expect.stringContaining('is to keep its memory') };
  expect(place([host('a')], memory)).toMatchObject(nowhere);
  expect(place([host('a'), host('b', { memorySnapshots: true, status: 'lost' })], memory)).toMatchObject(nowhere);
  const usual = { reason: 'no_host', message: 'No host takes work right now.' };
  expect(place([host('a'), host('b', { memorySnapshots: true, status: 'draining' })], memory)).toMatchObject(usual);
  expect(place([], memory)).toMatchObject(usual);
  // What starts from a disk has no choice any more.
  expect(place([host('a'), able], { ...memory, snapshotHostIds: ['a'] })).toEqual({ ok: true, hostId: 'a' });
});

test('never overfills a host, answers alike for any order, and finds room where there is some', () => {
  const resources = fc.record({
    cpus: fc.nat({ max: 8 }),
    memoryBytes: fc.nat({ max: 8 }),
    diskBytes: fc.nat({ max: 8 }),
  });
  const status = fc.constantFrom('online', 'draining', 'lost');
  const hosts = fc.uniqueArray(
    fc.record({
      ...{ hostId: fc.constantFrom('a', 'b', 'c', 'd'), status, capacity: resources, used: resources },
      memorySnapshots: fc.boolean(),
    }),
    {
      selector: ({ hostId }) => hostId,
    },
  );
  const snapshot = fc.option(fc.subarray(['a', 'b', 'c']), { nil: null });
  fc.assert(
    fc.property(hosts, resources, snapshot, fc.boolean(), (view, wanted, snapshotHostIds, needsMemorySnapshots) => {
      const asked = { ...wanted, snapshotHostIds, copyHostIds: [], needsMemorySnapshots };
      const answer = place(view, asked);
      expect(place([...view].reverse(), asked)).toEqual(answer);
      const canTake = ({ hostId, status: state, capacity, used, memorySnapshots }: HostView) =>
        (snapshotHostIds === null
          ? state === 'online' && (memorySnapshots || !needsMemorySnapshots)
          : state !== 'lost' && snapshotHostIds.includes(hostId)) &&
        (['cpus', 'memoryBytes', 'diskBytes'] as const).every((kind) => used[kind] + wanted[kind] <= capacity[kind]);
      const able = view.filter(canTake).map(({ hostId }) => hostId);
      if (answer.ok) expect(able).toContain(answer.hostId);
      else expect(able).toEqual([]);
    }),
  );
});
