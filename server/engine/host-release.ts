import { crashPoint } from '@caisson/contracts/crash-point';
import type { Link } from './host-link.ts';
import type { LoopSpec } from './loop.ts';

const lookAgainMs = 1_000;
const mostAtOnce = 100;

/** Beside the dispatch, because a host that deletes disks takes its time, and the next job must not wait for it. */
export function releaseLoop({ deps, host, hostId }: Link): LoopSpec {
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
    },
  };
}
