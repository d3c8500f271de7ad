import type { LogChunk } from '@caisson/contracts/ci/log-stream';
import { sql } from 'kysely';
import type { Database } from '../../store/database.ts';

export interface LogRow {
  readonly seq: number;
  readonly stream: LogChunk['stream'];
  readonly content: Buffer;
  readonly atMs: number;
}

/** Output streams by their number in the table. */
export const logStreams = ['stdout', 'stderr', 'meta'] as const;
const pageRows = 64;
/** An unfinished character has at most three bytes, so no more chunks than this can matter. */
const tailRows = 3;
const endedStates: readonly string[] = ['passed', 'failed', 'skipped', 'canceled', 'timed_out'];

/** One page of a job's output from number `fromSeq` on; empty when there is no more yet. */
export async function readLogPage(db: Database, jobId: string, fromSeq: number): Promise<LogRow[]> {
  const rows = await db
    .selectFrom('log_chunks')
    .select(['seq', 'stream', 'content', 'at'])
    .where('job_id', '=', jobId)
    .where('seq', '>=', fromSeq)
    .orderBy('seq')
    .limit(pageRows)
    .execute();
  return rows.map(({ seq, stream, content, at }) => ({ seq, stream: logStreams[stream], content, atMs: at.getTime() }));
}

/** The last bytes of each output stream before number `seq`: enough to know whether a character is unfinished there. */
export async function readLogTails(
  db: Database,
  jobId: string,
  seq: number,
): Promise<{ stream: LogChunk['stream']; tail: Buffer }[]> {
  const tailOf = async (number: 0 | 1 | 2) => {
    const rows = await db
      .selectFrom('log_chunks')
      .select('content')
      .where('job_id', '=', jobId)
      .where('stream', '=', number)
      .where('seq', '<', seq)
      .where(sql<boolean>`octet_length(content) > 0`)
      .orderBy('seq', 'desc')
      .limit(tailRows)
      .execute();
    return { stream: logStreams[number], tail: Buffer.concat(rows.map((row) => row.content).reverse()) };
  };
  return Promise.all([tailOf(0), tailOf(1), tailOf(2)]);
}

/** Number of the last output of a job; 0 without any. */
export async function readLastSeq(db: Database, jobId: string): Promise<number> {
  const row = await db
    .selectFrom('log_chunks')
    .select(({ fn }) => fn.max('seq').as('seq'))
    .where('job_id', '=', jobId)
    .executeTakeFirst();
  return row?.seq ?? 0;
}

/** Whether a job will say no more. Asked before its output is read, a yes means that all of the output is there. */
export async function hasJobEnded(db: Database, jobId: string): Promise<boolean> {
  const row = await db.selectFrom('jobs').select('status').where('id', '=', jobId).executeTakeFirst();
  return row === undefined || endedStates.includes(row.status);
}
