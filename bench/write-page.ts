import type { Row, RowResult } from './row.ts';

export async function writePerformancePage(_results: readonly RowResult[], _rows: readonly Row[]): Promise<string> {
  return '';
}
