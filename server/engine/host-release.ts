import { crashPoint } from '@caisson/contracts/crash-point';
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
      const layers = await deps.db
        .selectFrom('layers')
        .select('id')
        .where('host_id', '=', hostId)
        .where('released_at', 'is not', null)
        .limit(mostAtOnce)
        .execute();
      for (const { id } of layers) {
        if (signal.aborted) return;
        await host.releaseLayer(id);
        crashPoint('release.told');
        await deps.db.deleteFrom('layers').where('id', '=', id).execute();
      }
      await releaseCopies(link, signal);
    },
  };
}

/** Copies of layers that are released. One that is on its way meanwhile goes as any that nobody uses. */
async function releaseCopies({ deps, host, hostId }: Link, signal: AbortSignal): Promise<void> {
  const copies = await deps.db
    .selectFrom('layer_copies')
    .leftJoin('layers', (join) => join.onRef('layers.id', '=', 'layer_id').on('released_at', 'is', null))
    .select('layer_id')
    .where('layer_copies.host_id', '=', hostId)
    .where('layers.id', 'is', null)
    .limit(mostAtOnce)
    .execute();
  for (const { layer_id } of copies) {
    if (signal.aborted) return;
    await host.releaseLayer(layer_id);
    crashPoint('copy.released');
    await deps.db.deleteFrom('layer_copies').where('layer_id', '=', layer_id).where('host_id', '=', hostId).execute();
  }
}
