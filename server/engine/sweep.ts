import { crashPoint } from '@caisson/contracts/crash-point';
import { sql } from 'kysely';
import type { Logger } from 'pino';
import { endOrphanedCapsules } from './lease.ts';
import { planRenderedBuild } from './plan-rendered-build.ts';
import { changeBuild, type TransitionDeps } from './transition.ts';

const snapshotGoneAfterMs = 600_000;
/** How long whoever is in charge has before the sweep does it. */
const patienceMs = 2_000;
const mostAtOnce = 100;

/**
 * What must not stay as it is, whoever forgot it: every state that something else has to end has a query here that finds it again.
 * With nothing forgotten it changes nothing.
 */
export async function sweep(deps: TransitionDeps & { readonly logger: Logger }): Promise<void> {
  for (const part of [planForgotten, reviewIdle, failWithoutSnapshot, endOrphans, releaseForgotten]) {
    await part(deps).catch((error) => deps.logger.error({ err: error, part: part.name }, 'a sweep failed'));
  }
}

/** Builds whose rendering is over and that nobody planned: the effect was lost, failed too often, or its performer died. */
async function planForgotten(deps: TransitionDeps): Promise<void> {
  const { rows } = await sql<{ id: string }>`
    select b.id from builds b join jobs j on j.build_id = b.id and j.kind = 'render'
    where b.finished_at is null and b.planned_at is null
      and j.finished_at < clock_timestamp() - ${patienceMs} * interval '1 millisecond'
    limit ${mostAtOnce}`.execute(deps.db);
  for (const { id } of rows) await planRenderedBuild(deps, id);
}

/** Open builds none of whose jobs is under way. */
async function reviewIdle(deps: TransitionDeps): Promise<void> {
  const { rows } = await sql<{ id: string }>`
    select b.id from builds b
    where b.finished_at is null and (b.planned_at is not null or b.cancel_requested)
      and not exists (
        select from jobs j
        where j.build_id = b.id and j.kind = case when b.planned_at is null then 'render' else 'step' end
          and j.status in ('scheduled', 'assigned', 'running', 'canceling', 'timing_out')
      )
    limit ${mostAtOnce}`.execute(deps.db);
  for (const { id } of rows) await changeBuild(deps, id, async (change) => change.review());
}

/**
 * Jobs whose parent's disk is on a host that was silent for long, while somebody listened. Where the control plane has the disk, so
 * was every host that could be given it.
 */
async function failWithoutSnapshot(deps: TransitionDeps): Promise<void> {
  const { rows } = await sql<{ id: string; build_id: string }>`
    with heard as (
      select * from hosts
      where last_seen_at >= (select looked_at from watch) - ${snapshotGoneAfterMs} * interval '1 millisecond'
    )
    select j.id, j.build_id
    from jobs j join jobs p on p.id = j.builds_in
    where j.status = 'scheduled' and not exists (
      select from heard where heard.id in (
        select host_id from layers where id = p.layer_id
        union all select host_id from layer_copies where layer_id = p.layer_id and arrived_at is not null
      )
    ) and not exists (
      select from layer_blobs b
      join heard on heard.driver = b.driver
      join layers l on l.id = p.layer_id join hosts maker on maker.id = l.host_id
      where b.copy_id = p.layer_id::text and (p.snapshot is distinct from 'memory' or heard.runtime = maker.runtime)
    )
    limit ${mostAtOnce}`.execute(deps.db);
  const message = 'The host with the disk of the step it builds in has been gone for ten minutes. Run the build again.';
  for (const { id, build_id } of rows) {
    await changeBuild(deps, build_id, (change) =>
      change.job(id, { kind: 'unplaceable', error: { code: 'snapshot_missing', message } }),
    );
  }
}

const endOrphans = ({ db }: TransitionDeps): Promise<void> => endOrphanedCapsules(db, patienceMs);

/** Sealed disks of builds that are over. */
async function releaseForgotten({ db }: TransitionDeps): Promise<void> {
  await sql`
    update layers set released_at = clock_timestamp()
    from builds
    where builds.id = layers.build_id and builds.finished_at is not null and layers.released_at is null`.execute(db);
  crashPoint('sweep.released');
}
