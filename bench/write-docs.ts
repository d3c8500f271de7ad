import { readFile, writeFile } from 'node:fs/promises';
import { promises } from '../e2e/promises.ts';
import { formatted } from './format-markdown.ts';
import { performancePage } from './performance-page.ts';
import { readmeFigures } from './readme-figures.ts';
import { type FaultRun, reliabilityPage } from './reliability-page.ts';
import { readReport } from './results.ts';
import type { Row, RowResult } from './row.ts';

const root = new URL('../', import.meta.url);
const [performancePath, reliabilityPath, readmePath] = ['docs/performance.md', 'docs/reliability.md', 'README.md'];
const marks = { from: '<!-- figures -->', to: '<!-- /figures -->' };

/** Runs whose reports the page about reliability shows, in this order. */
const faultRuns: readonly Omit<FaultRun, 'report'>[] = [
  {
    title: 'Simulation',
    name: 'simulation',
    command: 'npm run simulate -- --seeds 1000 --out bench/results/simulation.json',
  },
  {
    title: 'Crash points of the control plane',
    name: 'crash-points-server',
    command: 'npm test -- server/test/crash-points.test.ts',
  },
  {
    title: 'Crash points of the host',
    name: 'crash-points-host',
    command: 'npm test -- host/test/crash-points.test.ts',
  },
];

/** Writes the published pages and the figures of the README; returns their paths. Throws when nothing was measured yet. */
export async function writeDocs(
  results: readonly RowResult[],
  { rows, remark }: { rows: readonly Row[]; remark: string },
): Promise<readonly string[]> {
  await write(performancePath, performancePage(results, { rows, remark }));
  const runs = faultRuns.map(async (run) => ({ ...run, report: await readReport(run.name) }));
  await write(reliabilityPath, reliabilityPage(promises, await Promise.all(runs)));
  await write(readmePath, replaceMarked(await readText(readmePath), readmeFigures(results)));
  return [performancePath, reliabilityPath, readmePath];
}

function replaceMarked(text: string, content: string): string {
  const [before, rest] = text.split(marks.from);
  const after = rest?.split(marks.to)[1];
  if (before === undefined || after === undefined) throw new Error(`${readmePath} lacks ${marks.from} or ${marks.to}`);
  return `${before}${marks.from}\n\n${content}\n\n${marks.to}${after}`;
}

async function write(path: string, text: string): Promise<void> {
  await writeFile(new URL(path, root), formatted(text));
}

async function readText(path: string): Promise<string> {
  return await readFile(new URL(path, root), 'utf8');
}
