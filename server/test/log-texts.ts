import { sql } from 'kysely';
import type { Database } from '../store/database.ts';

/** What each job that printed anything has printed, in no order; without what the control plane said of waiting. */
export async function logTexts(db: Database): Promise<readonly string[]> {
  const { rows } = await sql<{ text: string }>`
    select string_agg(convert_from(content, 'UTF8'), '' order by seq) as text from log_chunks
    where stream <> 2 group by job_id`.execute(db);
  return rows.map(({ text }) => text);
}
