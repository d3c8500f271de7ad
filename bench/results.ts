import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { RowResult } from './row.ts';

const directory = new URL('results/', import.meta.url);
const latest = new URL('latest.json', directory);

/**
 * Keeps what one run measured: by itself under its time, and in `latest.json`, which holds the newest of every row. A quick
 * measurement never takes the place of a full one there.
 */
export async function keepResults(rows: readonly RowResult[], startedAt: Date): Promise<string> {
  await mkdir(directory, { recursive: true });
  const own = new URL(`${startedAt.toISOString().replaceAll(':', '')}.json`, directory);
  await write(own, rows);
  const known = await readLatest();
  const isKnownInFull = ({ id }: RowResult) => known.some((row) => row.id === id && !row.isQuick);
  const fresh = rows.filter((row) => !row.isQuick || !isKnownInFull(row));
  const before = known.filter(({ id }) => !fresh.some((row) => row.id === id));
  await write(latest, [...before, ...fresh]);
  return fileURLToPath(own);
}

/** The newest result of every row; empty before the first run. */
export async function readLatest(): Promise<readonly RowResult[]> {
  const text = await readFile(latest, 'utf8').catch(() => '[]');
  // What an older bench kept has no verdicts.
  return (JSON.parse(text) as readonly RowResult[]).filter(({ goals }) => Array.isArray(goals));
}

/** What another program left in `bench/results/<name>.json`; null when there is none. */
export async function readReport(name: string): Promise<Readonly<Record<string, unknown>> | null> {
  const text = await readFile(new URL(`${name}.json`, directory), 'utf8').catch(() => null);
  return text === null ? null : JSON.parse(text);
}

async function write(url: URL, rows: readonly RowResult[]): Promise<void> {
  const path = fileURLToPath(url);
  await writeFile(`${path}.tmp`, `${JSON.stringify(rows, null, 2)}\n`);
  await rename(`${path}.tmp`, path);
}
