import { hasCode, messageOf } from '@caisson/contracts/app-error';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { RunResult } from '@caisson/contracts/host-api';
import type { JobEvent } from '@caisson/core/job';
import { sql } from 'kysely';
import { type Handover, loadHandovers } from './assignment.ts';
import { makeBatcher } from './batcher.ts';
import { bringLayer, refuseLayer, type WantedLayer } from './bring-layer.ts';
import type { Link } from './host-link.ts';
import type { LoopSpec } from './loop.ts';
import { changeBuild } from './transition.ts';

const lookAgainMs = 1_000;
const retryMs = 500;
const tellAgainMs = 5_000;
/** A host whose disk is full is asked so often, over about five seconds, before another one may have the job. */
const refusalsTillBack = 5;

/** Hands a host its leases, each on its own: one with a large source keeps no other waiting. */
export interface Dispatcher {
  readonly loop: LoopSpec;
  /** Resolves when the lease is not being handed over, or that has failed. */
  settled(leaseId: string): Promise<void>;
  /** Resolves when nothing is being handed over. */
  idle(): Promise<void>;
}

/** Level-triggered: whatever the tables say this host shall start or end, and has not confirmed. */
export function makeDispatcher(link: Link): Dispatcher {
  const { deps, host, hostId } = link;
  const underWay = new Map<string, Promise<void>>();
  const told = new Map<string, number>();
  const refusals = new Map<string, number>();
  const bringOnce = makeBringing();
  const confirmed = makeBatcher((leaseIds: readonly string[]) => confirm(link, leaseIds));

  async function hand({ assignment, wantedLayer }: Handover): Promise<void> {
    const { leaseId, sourceDigest } = assignment;
    try {
      if (sourceDigest !== null) await bringOnce(sourceDigest, () => sendSource(link, sourceDigest));
      if (wantedLayer !== null) {
        await bringOnce(wantedLayer.layerId, () => sendLayer(link, wantedLayer));
        if (!(await isHeld(link, leaseId))) return;
      }
      await host.startRun(assignment);
      refusals.delete(leaseId);
      crashPoint('dispatch.told');
      await confirmed.add(leaseId);
    } catch (error) {
      if (error instanceof SourceMissing) return refuse(link, leaseId);
      if (error instanceof LayerRefused && (error.isFinal || isRefusedLong(leaseId)))
        return giveLayerBack(link, leaseId, error);
      if (hasCode(error, 'disk_full') && isRefusedLong(leaseId))
        return giveBack(link, leaseId, 'the disk of a host is full');
      deps.logger.warn({ err: error, hostId, leaseId }, 'a job could not be handed to its host; trying again');
      await deps.pause(retryMs);
    }
  }

  function isRefusedLong(leaseId: string): boolean {
    const count = (refusals.get(leaseId) ?? 0) + 1;
    if (count < refusalsTillBack) refusals.set(leaseId, count);
    else refusals.delete(leaseId);
    return count >= refusalsTillBack;
  }

  async function handAll(leaseIds: readonly string[]): Promise<void> {
    for (const handover of await loadHandovers(deps.db, leaseIds, deps.defaults)) {
      const { leaseId } = handover.assignment;
      const handed = hand(handover)
        .catch((error) => deps.logger.warn({ err: error, hostId, leaseId }, 'a job could not be handed to its host'))
        .finally(() => underWay.delete(leaseId));
      underWay.set(leaseId, handed);
    }
  }

  async function endAll(leases: readonly HeldRow[]): Promise<void> {
    const nowMs = deps.nowMs();
    for (const [leaseId, atMs] of told) if (nowMs - atMs >= tellAgainMs) told.delete(leaseId);
    await Promise.all(
      leases.map(async ({ id: leaseId, fence, cancel_reason }) => {
        if (cancel_reason === null || told.has(leaseId)) return;
        await host.cancelRun({ leaseId, fence }, cancel_reason);
        crashPoint('cancel.told');
        told.set(leaseId, nowMs);
      }),
    );
  }

  return {
    loop: {
      name: 'dispatch',
      everyMs: lookAgainMs,
      async run() {
        const leases = await loadUnconfirmed(link);
        const fresh = leases.filter(({ id, is_dispatched }) => !is_dispatched && !underWay.has(id)).map(({ id }) => id);
        if (fresh.length > 0) await handAll(fresh);
        await endAll(leases.filter(({ id, is_dispatched }) => is_dispatched && !underWay.has(id)));
      },
    },
    settled: (leaseId) => underWay.get(leaseId) ?? Promise.resolve(),
    async idle() {
      await Promise.all(underWay.values());
    },
  };
}

interface HeldRow {
  readonly id: string;
  readonly fence: number;
  readonly is_dispatched: boolean;
  readonly cancel_reason: 'canceled' | 'timed_out' | 'lost' | null;
}

async function loadUnconfirmed({ deps, hostId }: Link): Promise<readonly HeldRow[]> {
  return deps.db
    .selectFrom('leases')
    .select(['id', 'fence', 'cancel_reason'])
    .select(({ eb }) => eb('dispatched_at', 'is not', null).$castTo<boolean>().as('is_dispatched'))
    .where('host_id', '=', hostId)
    .where('status', '=', 'held')
    .where(({ or, eb }) => or([eb('dispatched_at', 'is', null), eb('cancel_reason', 'is not', null)]))
    .orderBy('fence')
    .execute();
}

/** Bringing a disk may take long. A canceled lease is still held: it is handed over, told to end, and ends as every other. */
async function isHeld({ deps }: Link, leaseId: string): Promise<boolean> {
  const held = deps.db.selectFrom('leases').select('id').where('id', '=', leaseId).where('status', '=', 'held');
  return (await held.executeTakeFirst()) !== undefined;
}

async function confirm({ deps }: Link, leaseIds: readonly string[]): Promise<void> {
  await sql`
    with told as (select id from leases where id = any(${leaseIds}::uuid[]) order by id for no key update)
    update leases set dispatched_at = clock_timestamp() from told where leases.id = told.id`.execute(deps.db);
  crashPoint('dispatch.confirmed');
}

/** Brings what several leases need at a time once. */
function makeBringing(): (name: string, bring: () => Promise<void>) => Promise<void> {
  const underWay = new Map<string, Promise<void>>();
  return (name, bring) => {
    const brought = underWay.get(name) ?? bring().finally(() => underWay.delete(name));
    underWay.set(name, brought);
    return brought;
  };
}

class SourceMissing extends Error {}

async function sendSource({ deps, host }: Link, digest: string): Promise<void> {
  if (await host.hasBlob(digest)) return;
  if (!(await deps.blobs.has(digest))) throw new SourceMissing(digest);
  await host.putBlob(digest, deps.blobs.read(digest));
  crashPoint('dispatch.source_sent');
}

/** The layer a host is to have could not be brought there. */
export class LayerRefused extends Error {
  readonly layerId: string;
  /** Nor will it ever be of use there. */
  readonly isFinal: boolean;

  constructor(layerId: string, cause: unknown) {
    super(`a layer could not be brought to a host: ${messageOf(cause)}`, { cause });
    this.layerId = layerId;
    this.isFinal = hasCode(cause, 'snapshot_failed') || hasCode(cause, 'payload_too_large');
  }
}

async function sendLayer(link: Link, wanted: WantedLayer): Promise<void> {
  await bringLayer(link, wanted).catch((cause: unknown) => {
    throw new LayerRefused(wanted.layerId, cause);
  });
}

/** No host will ever be able to begin it. */
function refuse(link: Link, leaseId: string): Promise<void> {
  const message = 'The source archive of this build is gone from the control plane. Run the build again.';
  const result: RunResult = { outcome: 'failed', code: 'source_invalid', message };
  return changeJobOf(link, leaseId, (atMs) => ({ kind: 'finished', leaseId, atMs, result }));
}

/** To be placed again, without an attempt lost. */
function giveBack(link: Link, leaseId: string, why: string): Promise<void> {
  link.deps.logger.warn({ hostId: link.hostId, leaseId }, `${why}; the job goes back to the queue`);
  return changeJobOf(link, leaseId, () => ({ kind: 'refused', leaseId }));
}

/** To be placed on a host that has its disk, or can have it. */
async function giveLayerBack(link: Link, leaseId: string, { layerId, message }: LayerRefused): Promise<void> {
  await refuseLayer(link, layerId);
  await giveBack(link, leaseId, message);
}

async function changeJobOf({ deps }: Link, leaseId: string, eventAt: (nowMs: number) => JobEvent): Promise<void> {
  const row = await deps.db
    .selectFrom('leases')
    .innerJoin('jobs', 'jobs.id', 'leases.job_id')
    .select(['jobs.id', 'jobs.build_id'])
    .where('leases.id', '=', leaseId)
    .executeTakeFirstOrThrow();
  await changeBuild(deps, row.build_id, (change) => change.job(row.id, eventAt(change.set.nowMs)));
}
