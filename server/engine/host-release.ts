import { crashPoint } from '@caisson/contracts/crash-point';
import { sql } from 'kysely';
import type { Link } from './host-link.ts';
import type { LoopSpec } from './loop.ts';

const lookAgainMs = 1_000;
const mostAtOnce = 100;

/** Beside the dispatch, because a host that deletes disks takes its time, and the next job must not wait for it. */
export function releaseLoop(link: Link): LoopSpec {
  const { deps, host, hostId } = link;
  return {
    name: 'release',
    everyMs: lookAgainMs,
    async run(signal) {
      for (const { layer_id, is_copy } of await loadReleased(link)) {
        if (signal.aborted) return;
        await host.releaseLayer(layer_id);
        crashPoint('release.told');
        const row = is_copy
          ? deps.db.deleteFrom('layer_copies').where('layer_id', '=', layer_id).where('host_id', '=', hostId)
          : deps.db.deleteFrom('layers').where('id', '=', layer_id);
        await row.execute();
      }
    },
  };
}

interface ReleasedLayer {
  readonly layer_id: string;
  readonly is_copy: boolean;
}

/** A copy is released with what it is a copy of; one that is on its way meanwhile goes as any that nobody uses. */
async function loadReleased({ deps, hostId }: Link): Promise<readonly ReleasedLayer[]> {
  const { rows } = await sql<ReleasedLayer>`
    select id as layer_id, false as is_copy from layers where host_id = ${hostId} and released_at is not null
    union all
    select layer_id, true from layer_copies where host_id = ${hostId}
      and not exists (select from layers where id = layer_id and released_at is null)
    order by is_copy, layer_id
    limit ${mostAtOnce}`.execute(deps.db);
  return rows;
}
