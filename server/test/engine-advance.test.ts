import { randomUUID } from 'node:crypto';
import type { RunResult } from '@caisson/contracts/host-api';
import { advance } from '@caisson/core/advance';
import { rollUp } from '@caisson/core/build';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { loadGraph } from '../engine/build-graph.ts';
import { type BuildChange, changeBuild, type TransitionDeps } from '../engine/transition.ts';
import type { JobRow } from '../store/job-row.ts';
import { type EngineRig, engineRig } from './engine-rig.ts';
import { exited } from './scripted-host.ts';

let rig: EngineRig;
afterEach(() => rig.close());

const hostId = '00000000-0000-4000-8000-000000000001';
const shape = { cpus: 1, memoryBytes: 1, diskBytes: 1, pids: 1 };

/** What happens to one job, whichever is open; or to the build. */
type Happening = 'assign' | 'start' | 'pass' | 'fail' | 'lose' | 'cancel' | 'time_out';

const builds = fc.record({
  // A step builds in one before it, or in none; a wait makes everything behind it need everything before.
  parents: fc.array(fc.option(fc.nat(20), { nil: null, freq: 1 }), { minLength: 3, maxLength: 9 }),
  waitAfter: fc.option(fc.integer({ min: 2, max: 8 }), { nil: null }),
  stopOnFailure: fc.boolean(),
  happenings: fc.array(
    fc.tuple(
      fc.constantFrom<Happening>('assign', 'assign', 'assign', 'start', 'start', 'pass', 'pass', 'fail', 'lose'),
      fc.array(fc.nat(20), { minLength: 1, maxLength: 3 }),
    ),
    { minLength: 15, maxLength: 40 },
  ),
  end: fc.option(fc.constantFrom<Happening>('cancel', 'time_out'), { nil: null, freq: 1 }),
  endAfter: fc.nat(40),
});

test('following only what changed leaves nothing to do for a look at the whole graph', async () => {
  rig = await engineRig([]);
  await rig.engine.stopPlacing();
  await rig.db
    .insertInto('hosts')
    .values({
      ...{ id: hostId, name: 'h', driver: 'container', runtime: 'none', memory_snapshots: false },
      ...{ cpus: 1, memory_bytes: 1, disk_bytes: 1, last_seen_at: new Date(Date.now() + 3_600_000) },
    })
    .execute();
  const deps: TransitionDeps = {
    newId: randomUUID,
    db: rig.db,
    effects: { enqueue: async () => {} },
    notifications: { tell: async () => {}, wake: () => {} },
  };
  await fc.assert(
    fc.asyncProperty(builds, async ({ parents, waitAfter, stopOnFailure, happenings, end, endAfter }) => {
      const { build } = await rig.build(irOf(parents, waitAfter), { stopOnFailure });
      const all = happenings.toSpliced(endAfter, 0, ...(end === null ? [] : [[end, [0]] as [Happening, number[]]]));
      await expectSettled(build.id);
      for (const happening of all) {
        await changeBuild(deps, build.id, (change) => happen(change, happening));
        await expectSettled(build.id);
      }
    }),
    { numRuns: 40 },
  );
}, 60_000);

function irOf(parents: readonly (number | null)[], waitAfter: number | null): string {
  const steps = parents.flatMap((parent, index) => {
    const builds_in = parent === null || index === 0 ? null : `s${parent % index}`;
    const step = { type: 'command', key: `s${index}`, cmd: 'true', builds_in };
    return index === waitAfter && index < parents.length - 1 ? [step, { type: 'wait' }] : [step];
  });
  return JSON.stringify({ version: '0', steps });
}

/** The same happening for several jobs in one transaction. */
async function happen(change: BuildChange, [kind, picks]: [Happening, number[]]): Promise<void> {
  if (kind === 'cancel') await change.apply({ kind: 'cancel' });
  else if (kind === 'time_out') await change.apply({ kind: 'build_timeout' });
  else {
    const { set } = change;
    const { rows } = await loadGraph(set.tx, change.build);
    set.knowJobs(rows);
    for (const pick of picks) {
      const open = rows.map(({ id }) => set.job(id)).filter((job) => job !== undefined && isFor(job, kind));
      const job = open[pick % Math.max(1, open.length)];
      if (job !== undefined) await send(change, { kind, job });
    }
  }
}

function isFor({ status }: Pick<JobRow, 'status'>, kind: Happening): boolean {
  if (kind === 'assign') return status === 'scheduled';
  if (kind === 'start') return status === 'assigned';
  return ['assigned', 'running', 'canceling', 'timing_out'].includes(status);
}

async function send(change: BuildChange, { kind, job }: { kind: Happening; job: Parameters<typeof assign>[1] }) {
  const atMs = change.set.nowMs;
  const leaseId = job.lease_id ?? '';
  const finish = (result: RunResult) => change.job(job.id, { kind: 'finished', leaseId, atMs, result });
  if (kind === 'assign') await assign(change, job);
  if (kind === 'start') await change.job(job.id, { kind: 'started', leaseId, atMs });
  if (kind === 'lose') await change.job(job.id, { kind: 'lost', leaseId });
  if (kind === 'pass') await finish(exited(0));
  if (kind === 'fail') await finish(exited(1));
}

async function assign(change: BuildChange, job: NonNullable<ReturnType<BuildChange['set']['job']>>): Promise<void> {
  const { id: leaseId } = change.set.takeLease(job, { hostId, shape });
  await change.job(job.id, { kind: 'assigned', leaseId });
}

/** What `core` makes of the whole graph is what is there. */
async function expectSettled(buildId: string): Promise<void> {
  await rig.db.transaction().execute(async (tx) => {
    const build = await tx.selectFrom('builds').selectAll().where('id', '=', buildId).executeTakeFirstOrThrow();
    const { rows, graph } = await loadGraph(tx, build);
    const { cancel_requested: cancelRequested, timed_out: timedOut, stop_on_failure: stopOnFailure } = build;
    const { skip, schedule, cancel, timeOut } = advance(graph, { cancelRequested, timedOut, stopOnFailure });
    expect({ skip, schedule, cancel, timeOut }).toEqual({ skip: [], schedule: [], cancel: [], timeOut: [] });
    const states = rows.map(({ status }) => status);
    const should = rollUp(states, cancelRequested);
    // What has begun stays begun, also when a lost run leaves nothing but waiting jobs.
    expect(build.status).toBe(should === 'scheduled' && build.status === 'running' ? 'running' : should);
    const starts = rows.flatMap(({ started_at }) => started_at?.getTime() ?? []);
    if (starts.length > 0) expect(build.started_at).not.toBeNull();
  });
}
