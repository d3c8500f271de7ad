import type { Database } from '../../store/database.ts';

/** Notes that an organization has uploaded an archive, so that its builds may name it by digest. */
export async function recordSource(
  db: Database,
  organizationId: string,
  stored: { digest: string; sizeBytes: number },
): Promise<void> {
  await db
    .insertInto('sources')
    .values({ organization_id: organizationId, digest: stored.digest, size_bytes: stored.sizeBytes })
    .onConflict((conflict) => conflict.columns(['organization_id', 'digest']).doNothing())
    .execute();
}
