import { type RawBuilder, sql } from 'kysely';

/** A timestamp column as the wire spells it: ISO 8601 in UTC with microseconds, which a JavaScript date cannot hold. */
export function isoTime(column: string): RawBuilder<string> {
  return sql<string>`to_char(${sql.ref(column)} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
}

/** Same for a column that may be null. */
export function isoTimeOrNull(column: string): RawBuilder<string | null> {
  return isoTime(column) as RawBuilder<string | null>;
}

/** A moment of this process in the same spelling. */
export function isoTimeOf(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
