import type { OutputStream } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import type { Tx } from '../store/database.ts';

// PostgreSQL takes at most 65,535 parameters in one statement, five a row here.
const rowsPerInsert = 5_000;

const streamNumbers: Record<OutputStream, 0 | 1 | 2> = { stdout: 0, stderr: 1, meta: 2 };

export interface OutputChunk {
  readonly stream: OutputStream;
  readonly bytes: Uint8Array;
  readonly atMs: number;
}

/** Adds to a job's log, numbered without gaps over all attempts. `job_logs` is locked, so writers of one job follow each other. */
export async function appendChunks(tx: Tx, jobId: string, chunks: readonly OutputChunk[]): Promise<void> {
  const sizeBytes = chunks.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const { rows } = await sql<{ last_seq: number }>`
    insert into job_logs (job_id, last_seq, size_bytes) values (${jobId}, ${chunks.length}, ${sizeBytes})
    on conflict (job_id) do update set
      last_seq = job_logs.last_seq + excluded.last_seq,
      size_bytes = job_logs.size_bytes + excluded.size_bytes
    returning last_seq`.execute(tx);
  const firstSeq = (rows[0]?.last_seq ?? 0) - chunks.length + 1;
  const values = chunks.map(({ stream, bytes, atMs }, index) => ({
    job_id: jobId,
    seq: firstSeq + index,
    stream: streamNumbers[stream],
    content: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    at: new Date(atMs),
  }));
  for (let start = 0; start < values.length; start += rowsPerInsert) {
    await tx
      .insertInto('log_chunks')
      .values(values.slice(start, start + rowsPerInsert))
      .execute();
  }
}

/** Adds a line of Caisson's own to a job's log. */
export async function appendNote(tx: Tx, jobId: string, { line, atMs }: { line: string; atMs: number }): Promise<void> {
  await appendChunks(tx, jobId, [{ stream: 'meta', bytes: Buffer.from(`[caisson] ${line}\n`), atMs }]);
}
