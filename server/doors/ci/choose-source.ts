import { AppError } from '@caisson/contracts/app-error';
import type { components } from '@caisson/contracts/ci/ci-api.generated';
import type { CiDeps } from './operation.ts';
import { recordSource } from './record-source.ts';

type SourceFields = Pick<components['schemas']['CreateBuildRequest'], 'source_digest' | 'source_b64' | 'source_url'>;

/**
 * Digest of the stored archive a build shall use: an uploaded one, else the one in the request, which is stored here; null for none.
 * Throws `build_invalid`.
 */
export async function chooseSource(deps: CiDeps, organizationId: string, body: SourceFields): Promise<string | null> {
  if (body.source_digest) return uploadedSource(deps, organizationId, body.source_digest);
  if (body.source_b64) {
    const stored = await deps.blobs.put(oneChunk(decodeBase64(body.source_b64)));
    await recordSource(deps.db, organizationId, stored);
    return stored.digest;
  }
  if (body.source_url) {
    throw new AppError('build_invalid', 'source_url: this server downloads nothing; upload the source instead');
  }
  return null;
}

async function uploadedSource({ db }: CiDeps, organizationId: string, digest: string): Promise<string> {
  const row = await db
    .selectFrom('sources')
    .select('digest')
    .where('organization_id', '=', organizationId)
    .where('digest', '=', digest)
    .executeTakeFirst();
  if (!row) throw new AppError('build_invalid', `source_digest: this organization has uploaded no archive ${digest}`);
  return row.digest;
}

/** Standard base64 with padding and nothing else: decoding and encoding must give the same text. */
function decodeBase64(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw new AppError('build_invalid', 'source_b64 is not standard base64');
  return bytes;
}

async function* oneChunk(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
