import type { OutputStream } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import type { Tx } from '../store/database.ts';

const streamNumbers: Record<OutputStream, 0 | 1 | 2> = { stdout: 0, stderr: 1, meta: 2 };
// PostgreSQL takes at most 65,535 parameters in one statement.
const chunksPerInsert = 5_000;

export interface OutputChunk {
  readonly stream: OutputStream;
  readonly bytes: Uint8Array;
  readonly atMs: number;
}

/** Adds to the logs of jobs, each numbered without gaps over all attempts. Whoever does so holds the lock on the job's lease. */
export async function appendChunks(tx: Tx, output: ReadonlyMap<string, readonly OutputChunk[]>): Promise<void> {
  if (output.size === 0) return;
  const sizes = [...output].map(([job_id, chunks]) => ({
    job_id,
    count: chunks.length,
    bytes: chunks.reduce((sum, { bytes }) => sum + bytes.length, 0),
  }));
  const { rows } = await sql<{ job_id: string; last_seq: number }>`
    insert into job_logs (job_id, last_seq, size_bytes)
    select job_id, count, bytes
    from json_to_recordset(${JSON.stringify(sizes)}::json) as v(job_id uuid, count bigint, bytes bigint)
    order by job_id
    on conflict (job_id) do update set
      last_seq = job_logs.last_seq + excluded.last_seq,
      size_bytes = job_logs.size_bytes + excluded.size_bytes
    returning job_id, last_seq`.execute(tx);
  const values = rows.flatMap(({ job_id, last_seq }) => numbered(job_id, last_seq, output.get(job_id) ?? []));
  for (let start = 0; start < values.length; start += chunksPerInsert) {
    await tx
      .insertInto('log_chunks')
      .values(values.slice(start, start + chunksPerInsert))
      .execute();
  }
}

function numbered(job_id: string, lastSeq: number, chunks: readonly OutputChunk[]) {
  return chunks.map(({ stream, bytes, atMs }, index) => ({
    job_id,
    seq: lastSeq - chunks.length + 1 + index,
    stream: streamNumbers[stream],
    content: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    at: new Date(atMs),
  }));
}

/** Remembers that what these jobs have printed so far was an earlier attempt. */
export async function markAttempt(tx: Tx, jobIds: readonly string[]): Promise<void> {
  if (jobIds.length === 0) return;
  await sql`
    update jobs set log_start_seq = job_logs.last_seq
    from job_logs where job_logs.job_id = jobs.id and jobs.id = any(${jobIds}::uuid[])`.execute(tx);
}
