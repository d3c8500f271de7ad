import { AppError } from '@caisson/contracts/app-error';
import { decodeCursor, encodeCursor, type PageEnd, pageLimit } from '@caisson/contracts/ci/pagination';
import { type RawBuilder, type SelectQueryBuilder, sql } from 'kysely';
import type { Schema } from '../../store/schema.ts';

interface PageOptions {
  /** Whose `created_at` and `id` order the list. */
  readonly table: 'organizations' | 'pipelines' | 'builds';
  readonly direction: 'asc' | 'desc';
  readonly query: { readonly limit?: number | string | undefined; readonly cursor?: string | undefined };
}

export interface Page<Row> {
  readonly rows: readonly Row[];
  readonly nextCursor: string | null;
}

/** One page of a query, behind the cursor. Rows that come or go meanwhile neither repeat nor hide others. */
export async function readPage<From extends keyof Schema, Row extends { id: string; created_at: string }>(
  query: SelectQueryBuilder<Schema, From, Row>,
  options: PageOptions,
): Promise<Page<Row>> {
  const limit = pageLimit(options.query.limit);
  const direction = sql.raw(options.direction);
  const columns = [sql.ref(`${options.table}.created_at`), sql.ref(`${options.table}.id`)];
  const after = readCursor(options.query.cursor);
  const found = await (after ? query.where(isBehind(columns, after, options.direction)) : query)
    .orderBy(sql`${columns[0]} ${direction}, ${columns[1]} ${direction}`)
    .limit(limit + 1)
    .execute();
  const rows = found.slice(0, limit) as Row[];
  const last = found.length > limit ? rows.at(-1) : undefined;
  return { rows, nextCursor: last ? encodeCursor({ createdAt: last.created_at, id: last.id }) : null };
}

function isBehind(columns: readonly RawBuilder<unknown>[], after: PageEnd, direction: 'asc' | 'desc') {
  const comparison = sql.raw(direction === 'asc' ? '>' : '<');
  return sql<boolean>`(${sql.join(columns)}) ${comparison} (${after.createdAt}::timestamptz, ${after.id}::uuid)`;
}

function readCursor(text: string | undefined): PageEnd | null {
  const cursor = decodeCursor(text);
  if (cursor.ok && (cursor.after === null || isRealMoment(cursor.after.createdAt))) return cursor.after;
  throw new AppError('invalid_cursor', 'cursor did not come from an earlier page of this list; start again without it');
}

/** PostgreSQL takes neither a 30th of February nor a year 0. */
function isRealMoment(iso: string): boolean {
  return !iso.startsWith('0000') && new Date(iso).toISOString().slice(0, 19) === iso.slice(0, 19);
}
