import { Readable } from 'node:stream';
import { ask } from './ask.ts';
import type { CliConfig } from './config.ts';
import type { OpenServer } from './open-server.ts';
import type { SourceArchive, SourceSummary } from './source-archive.ts';

/** Uploads a source while it is packed. Returns what was packed; `digest` names it in a build. */
export async function uploadSource(
  { url, token }: OpenServer,
  { organization }: CliConfig,
  { stream, summary }: SourceArchive,
): Promise<SourceSummary> {
  const request = {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/gzip' },
    body: Readable.toWeb(stream),
    // A body that is a stream is sent while it is read; fetch wants this said.
    duplex: 'half',
  } as RequestInit;
  const upload = fetch(`${url}/api/v0/organizations/${encodeURIComponent(organization)}/sources`, request).then(
    async (response) => ({ response, ...(await readBody(response)) }),
  );
  await Promise.all([ask(upload), summary]);
  return summary;
}

async function readBody(response: Response): Promise<{ data: unknown; error: unknown }> {
  const body: unknown = await response.json().catch(() => null);
  return { data: body, error: body };
}
