import { Readable } from 'node:stream';
import { isUuid } from './is-uuid.ts';
import type { CiCaller, CiDeps } from './operation.ts';
import { demand, notFound } from './scope.ts';

/** The archive a build works on, for the capsules of that build. */
export async function getBuildSource(
  { db, blobs }: CiDeps,
  caller: CiCaller,
  { path }: { path: { build_uuid: string } },
): Promise<Readable> {
  if (!isUuid(path.build_uuid)) throw notFound('source_not_found');
  const build = await db
    .selectFrom('builds')
    .select(['id', 'organization_id', 'source_digest'])
    .where('id', '=', path.build_uuid)
    .executeTakeFirst();
  if (!build) throw notFound('source_not_found');
  const resource = { kind: 'build', organizationId: build.organization_id, buildId: build.id } as const;
  demand(caller, { action: 'source.read', resource, hidden: 'source_not_found' });
  if (!build.source_digest || !(await blobs.has(build.source_digest))) throw notFound('source_not_found');
  return Readable.from(blobs.read(build.source_digest));
}
