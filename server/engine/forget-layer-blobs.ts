import { sql } from 'kysely';
import type { HostLinkDeps } from './host-link.ts';

/**
 * Packed images and sources stay so long after their last use, and as long as a sealed disk on them; sealed disks for as long as a
 * host is to keep them.
 */
const keepUnusedMs = 24 * 3_600_000;
/** What is newer may be about to be written down. */
const freshMs = 3_600_000;

type ForgetDeps = Pick<HostLinkDeps, 'db' | 'layerBlobs' | 'nowMs'>;

/** Removes packed layers that nobody needs, and what is in their store without anybody knowing. */
export async function forgetLayerBlobs({ db, layerBlobs, nowMs }: ForgetDeps): Promise<void> {
  await sql`
    delete from layer_blobs as blob where case kind
      when 'sealed' then not exists (select from layers where layers.id::text = copy_id and released_at is null)
      else used_at < clock_timestamp() - ${keepUnusedMs} * interval '1 millisecond'
        and not exists (select from layer_blobs as top where top.kind = 'sealed' and blob.copy_id = any(top.below))
    end`.execute(db);
  const rows = await db.selectFrom('layer_blobs').select('digest').execute();
  const known = new Set(rows.map(({ digest }) => digest));
  for (const { digest, storedAtMs } of await layerBlobs.list())
    if (!known.has(digest) && storedAtMs < nowMs() - freshMs) await layerBlobs.remove(digest);
}
