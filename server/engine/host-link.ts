import { setTimeout as delay } from 'node:timers/promises';
import type { HostApi, HostDescription, LeaseRef, RunMessage } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import type { Logger } from 'pino';
import { withAdvisoryLock } from '../store/advisory-lock.ts';
import type { Blobs } from '../store/blobs.ts';
import { loadAssignment, type RunDefaults } from './assignment.ts';
import { leaseMs } from './lease.ts';
import { type LoopSpec, startLoop } from './loop.ts';
import { makeMessageQueue } from './message-queue.ts';
import type { Notifications } from './notifications.ts';
import { applyMessages, findLease, type LeaseOwner } from './run-messages.ts';
import { changeBuild, type TransitionDeps } from './transition.ts';

const heartbeatEveryMs = 5_000;
const lookAgainMs = 1_000;
const retryMs = 500;

export interface HostLinkDeps extends TransitionDeps {
  readonly connectionString: string;
  readonly notifications: Notifications;
  readonly blobs: Blobs;
  readonly defaults: RunDefaults;
  readonly logger: Logger;
}

/**
 * Connects one host with the database until `signal` aborts: registers it, hands it its leases, renews them, stores what it reports.
 * Of several control planes that can reach the host one does this at a time.
 */
export async function linkHost(deps: HostLinkDeps, host: HostApi, signal: AbortSignal): Promise<void> {
  const description = await describe(deps, host, signal);
  if (description === null) return;
  const { connectionString } = deps;
  await withAdvisoryLock({ connectionString, name: `host:${description.hostId}`, signal }, async (held) => {
    await register(deps, description);
    const link: Link = { deps, host, hostId: description.hostId };
    const loops = [dispatchLoop(link), heartbeatLoop(link), releaseLoop(link)].map((spec) =>
      startLoop(spec, deps.logger),
    );
    const unsubscribe = deps.notifications.on('host', description.hostId, () => loops[0]?.wake());
    try {
      await receive(link, held);
    } finally {
      unsubscribe();
      await Promise.all(loops.map((loop) => loop.stop()));
    }
  });
}

interface Link {
  readonly deps: HostLinkDeps;
  readonly host: HostApi;
  readonly hostId: string;
}

async function describe({ logger }: HostLinkDeps, host: HostApi, signal: AbortSignal): Promise<HostDescription | null> {
  while (!signal.aborted) {
    try {
      return await host.describe();
    } catch (error) {
      logger.warn({ error }, 'a host does not answer yet');
      await delay(retryMs, undefined, { signal }).catch(() => {});
    }
  }
  return null;
}

async function register({ db }: HostLinkDeps, { hostId, driver, capacity }: HostDescription): Promise<void> {
  const columns = {
    driver: driver.driver,
    runtime: driver.runtime,
    memory_snapshots: driver.memorySnapshots,
    cpus: capacity.cpus,
    memory_bytes: capacity.memoryBytes,
    disk_bytes: capacity.diskBytes,
    last_seen_at: sql<Date>`clock_timestamp()`,
  };
  await db
    .insertInto('hosts')
    .values({ id: hostId, name: hostId, ...columns })
    .onConflict((conflict) => conflict.column('id').doUpdateSet(columns))
    .execute();
}

/** Follows the host's messages and takes them up again after any failure; the host re-sends what was not acknowledged. */
async function receive(link: Link, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const owners = new Map<string, LeaseOwner | null>();
    const attempt = new AbortController();
    const queue = makeMessageQueue(
      (messages) => store(link, owners, messages),
      () => attempt.abort(),
    );
    try {
      for await (const message of link.host.watch(AbortSignal.any([signal, attempt.signal]))) await queue.push(message);
      await queue.drain();
    } catch (error) {
      if (!signal.aborted)
        link.deps.logger.warn({ error, hostId: link.hostId }, 'the messages of a host stopped; trying again');
    } finally {
      attempt.abort();
    }
    await delay(retryMs, undefined, { signal }).catch(() => {});
  }
}

async function store(
  { deps, host }: Link,
  owners: Map<string, LeaseOwner | null>,
  messages: readonly RunMessage[],
): Promise<void> {
  const last = messages.at(-1);
  if (last === undefined) return;
  const { leaseId, fence, seq } = last;
  const owner = owners.get(leaseId) ?? (await findLease(deps.db, leaseId, fence));
  owners.set(leaseId, owner);
  if (owner !== null) await applyMessages(deps, owner, messages);
  await host.acknowledge([{ leaseId, fence, seq }]);
  if (last.kind === 'finished') owners.delete(leaseId);
}

/** Level-triggered: whatever the tables say this host shall start or end, and has not confirmed. */
function dispatchLoop({ deps, host, hostId }: Link): LoopSpec {
  return {
    name: 'dispatch',
    everyMs: lookAgainMs,
    async run() {
      const leases = await deps.db
        .selectFrom('leases')
        .select(['id', 'fence', 'dispatched_at', 'cancel_reason'])
        .where('host_id', '=', hostId)
        .where('status', '=', 'held')
        .where(({ or, eb }) => or([eb('dispatched_at', 'is', null), eb('cancel_reason', 'is not', null)]))
        .execute();
      await Promise.all(
        leases.map(async ({ id, fence, dispatched_at, cancel_reason }) => {
          if (dispatched_at === null) await dispatch({ deps, host, hostId }, id);
          if (cancel_reason !== null) await host.cancelRun({ leaseId: id, fence }, cancel_reason);
        }),
      );
    },
  };
}

async function dispatch({ deps, host }: Link, leaseId: string): Promise<void> {
  const assignment = await loadAssignment(deps.db, leaseId, deps.defaults);
  const { sourceDigest } = assignment;
  if (sourceDigest !== null && !(await host.hasBlob(sourceDigest))) {
    await host.putBlob(sourceDigest, deps.blobs.read(sourceDigest));
  }
  await host.startRun(assignment);
  await deps.db
    .updateTable('leases')
    .set({ dispatched_at: sql<Date>`clock_timestamp()` })
    .where('id', '=', leaseId)
    .execute();
}

/** Beside the dispatch, because a host that deletes disks takes its time, and the next job must not wait for it. */
function releaseLoop({ deps, host, hostId }: Link): LoopSpec {
  return {
    name: 'release',
    everyMs: lookAgainMs,
    async run() {
      const layers = await deps.db
        .selectFrom('layers')
        .select('id')
        .where('host_id', '=', hostId)
        .where('released_at', 'is not', null)
        .execute();
      for (const { id } of layers) {
        await host.releaseLayer(id);
        await deps.db.deleteFrom('layers').where('id', '=', id).execute();
      }
    },
  };
}

/** Renews what the host holds, ends what it holds without a lease, and notices what it should hold and does not. */
function heartbeatLoop(link: Link): LoopSpec {
  return {
    name: 'heartbeat',
    everyMs: heartbeatEveryMs,
    async run() {
      const { db } = link.deps;
      const { rows } = await sql<{ asked_at: Date }>`select clock_timestamp() as asked_at`.execute(db);
      const { leases: held } = await link.host.heartbeat();
      await renew(link, held);
      await endStrangers(link, held);
      if (rows[0] !== undefined) await loseMissing(link, held, rows[0].asked_at);
    },
  };
}

async function renew({ deps: { db }, hostId }: Link, held: readonly LeaseRef[]): Promise<void> {
  const now = sql<Date>`clock_timestamp()`;
  await db.updateTable('hosts').set({ last_seen_at: now }).where('id', '=', hostId).execute();
  if (held.length === 0) return;
  await db
    .updateTable('leases')
    .set({ expires_at: sql<Date>`clock_timestamp() + ${leaseMs} * interval '1 millisecond'` })
    .where('host_id', '=', hostId)
    .where('status', '=', 'held')
    .where(
      'fence',
      'in',
      held.map(({ fence }) => fence),
    )
    .execute();
}

async function endStrangers({ deps: { db }, host }: Link, held: readonly LeaseRef[]): Promise<void> {
  if (held.length === 0) return;
  const known = await db
    .selectFrom('leases')
    .select('fence')
    .where('status', '=', 'held')
    .where(
      'fence',
      'in',
      held.map(({ fence }) => fence),
    )
    .execute();
  const fences = new Set(known.map(({ fence }) => fence));
  for (const lease of held) if (!fences.has(lease.fence)) await host.cancelRun(lease, 'lost');
}

/** A dispatched lease the host does not know (its disk was wiped, say) is lost at once. */
async function loseMissing({ deps, hostId }: Link, held: readonly LeaseRef[], askedAt: Date): Promise<void> {
  const fences = new Set(held.map(({ fence }) => fence));
  const rows = await deps.db
    .selectFrom('leases')
    .innerJoin('jobs', 'jobs.id', 'leases.job_id')
    .select(['leases.id', 'leases.fence', 'leases.job_id', 'jobs.build_id'])
    .where('leases.host_id', '=', hostId)
    .where('leases.status', '=', 'held')
    .where('leases.dispatched_at', '<', askedAt)
    .execute();
  for (const { id: leaseId, fence, job_id, build_id } of rows) {
    if (!fences.has(fence))
      await changeBuild(deps, build_id, (change) => change.job(job_id, { kind: 'lost', leaseId }));
  }
}
