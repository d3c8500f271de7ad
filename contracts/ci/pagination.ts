import { base64UrlOf, bytesOfBase64Url } from '../base64url.ts';

const defaultLimit = 50;
const largestLimit = 100;
const momentPattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
const idPattern = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;

/** Where a page ended: the last entry's creation time, in the spelling of `wireTimestamp`, and its id. */
export interface PageEnd {
  readonly createdAt: string;
  readonly id: string;
}

type CursorResult = { readonly ok: true; readonly after: PageEnd | null } | { readonly ok: false };

/** Entries per page for a `limit` as it came in: 50 when it is absent or no whole number, else within 1 and 100. */
export function pageLimit(raw: number | string | undefined): number {
  const text = String(raw ?? '').trim();
  if (!/^[+-]?\d+$/.test(text)) return defaultLimit;
  return Math.min(Math.max(Number(text), 1), largestLimit);
}

/** The `next_cursor` of a page. */
export function encodeCursor(end: PageEnd): string {
  return base64UrlOf(new TextEncoder().encode(`${end.createdAt}\0${end.id}`));
}

/** Reads a `cursor`: `after` is null for the first page (absent or empty). Not ok is an `invalid_cursor`. */
export function decodeCursor(raw: string | undefined): CursorResult {
  if (!raw) return { ok: true, after: null };
  const bytes = bytesOfBase64Url(raw);
  const [createdAt, id, ...rest] = bytes ? new TextDecoder().decode(bytes).split('\0') : [];
  if (createdAt === undefined || id === undefined || rest.length > 0) return { ok: false };
  if (!isMoment(createdAt) || !idPattern.test(id)) return { ok: false };
  return { ok: true, after: { createdAt, id } };
}

/** A day its month does not have passes the pattern and the parser, but not the way back. */
function isMoment(text: string): boolean {
  const ms = momentPattern.test(text) ? Date.parse(text) : Number.NaN;
  return !Number.isNaN(ms) && new Date(ms).toISOString().slice(0, 19) === text.slice(0, 19);
}
