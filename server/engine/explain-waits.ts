import { place } from '@caisson/core/place';
import { sql } from 'kysely';
import type { Tx } from '../store/database.ts';
import { appendChunks, type OutputChunk } from './job-log.ts';
import type { Notice } from './notifications.ts';
import { loadHosts, type PlaceDefaults, placementKey } from './place-jobs.ts';
import { snapshotHostsOf, waitingJobs } from './snapshot-hosts.ts';
import type { TransitionDeps } from './transition.ts';

/** How long a job waits before its log says why. */
const patienceMs = 10_000;
const mostAtOnce = 100;

/** Tells in the log of every job that waits for a host, once per attempt, why it does. */
export async function explainWaits(deps: TransitionDeps, defaults: PlaceDefaults): Promise<void> {
  const notices: Notice[] = [];
  await deps.db.transaction().execute(async (tx) => {
    // Under this lock no job is placed, so nothing else writes these logs.
    const { rows } = await sql<{ locked: boolean }>`
      select pg_try_advisory_xact_lock(${placementKey}) as locked`.execute(tx);
    const waiting = rows[0]?.locked ? await loadUntold(tx, defaults) : [];
    if (waiting.length === 0) return;
    const hosts = await loadHosts(tx);
    const refusals = [...hosts.values()].flatMap(({ status, refuses }) =>
      status === 'draining' && refuses !== null ? [refuses] : [],
    );
    const lines = new Map<string, OutputChunk[]>();
    for (const { id, needs_memory_snapshots: needsMemorySnapshots, at_ms, ...disk } of waiting) {
      const request = { ...defaults.shape, ...snapshotHostsOf(disk, hosts), needsMemorySnapshots };
      const placement = place([...hosts.values()], request);
      if (placement.ok) continue;
      const why = [placement.message, ...new Set(refusals.map((refusal) => `A host takes no new work: ${refusal}.`))];
      const bytes = Buffer.from(`[caisson] waiting for a host: ${why.join(' ')}\n`);
      lines.set(id, [{ stream: 'meta', bytes, atMs: at_ms }]);
      notices.push(`job:${id}`);
    }
    await appendChunks(tx, lines);
    await deps.notifications.tell(tx, notices);
  });
  deps.notifications.wake(notices);
}

function loadUntold(tx: Tx, defaults: PlaceDefaults) {
  return waitingJobs(tx, defaults)
    .select(sql<number>`(extract(epoch from clock_timestamp()) * 1000)::float8`.as('at_ms'))
    .where(sql<boolean>`jobs.scheduled_at < clock_timestamp() - ${patienceMs} * interval '1 millisecond'`)
    .where(sql<boolean>`not exists (select from log_chunks c where c.job_id = jobs.id and c.seq > jobs.log_start_seq)`)
    .limit(mostAtOnce)
    .execute();
}
