import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type HostView, type PlaceRequest, place, type Resources } from '../place.ts';

const room = (cpus: number, memoryBytes = 8_000, diskBytes = 100_000): Resources => ({ cpus, memoryBytes, diskBytes });
const host = (hostId: string, fields: Partial<HostView> = {}): HostView => {
  return { hostId, status: 'online', capacity: room(4), used: room(0, 0, 0), ...fields };
};
const request: PlaceRequest = { ...room(2, 4_000, 10_000), snapshotHostIds: null };

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

test('never overfills a host, answers alike for any order, and finds room where there is some', () => {
  const resources = fc.record({
    cpus: fc.nat({ max: 8 }),
    memoryBytes: fc.nat({ max: 8 }),
    diskBytes: fc.nat({ max: 8 }),
  });
  const status = fc.constantFrom('online', 'draining', 'lost');
  const hosts = fc.uniqueArray(
    fc.record({ hostId: fc.constantFrom('a', 'b', 'c', 'd'), status, capacity: resources, used: resources }),
    {
      selector: ({ hostId }) => hostId,
    },
  );
  const snapshot = fc.option(fc.subarray(['a', 'b', 'c']), { nil: null });
  fc.assert(
    fc.property(hosts, resources, snapshot, (view, wanted, snapshotHostIds) => {
      const answer = place(view, { ...wanted, snapshotHostIds });
      expect(place([...view].reverse(), { ...wanted, snapshotHostIds })).toEqual(answer);
      const canTake = ({ hostId, status: state, capacity, used }: HostView) =>
        (snapshotHostIds === null ? state === 'online' : state !== 'lost' && snapshotHostIds.includes(hostId)) &&
        (['cpus', 'memoryBytes', 'diskBytes'] as const).every((kind) => used[kind] + wanted[kind] <= capacity[kind]);
      const able = view.filter(canTake).map(({ hostId }) => hostId);
      if (answer.ok) expect(able).toContain(answer.hostId);
      else expect(able).toEqual([]);
    }),
  );
});
