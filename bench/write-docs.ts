import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { performancePage } from './performance-page.ts';
import { readmeFigures } from './readme-figures.ts';
import { type FaultRun, promisesPart, reliabilityPage, type TestedPromise } from './reliability-page.ts';
import { readReport } from './results.ts';
import type { Row, RowResult } from './row.ts';

const root = new URL('../', import.meta.url);
const formatter = fileURLToPath(new URL('node_modules/.bin/biome', root));
const [performancePath, reliabilityPath, readmePath] = ['docs/performance.md', 'docs/reliability.md', 'README.md'];
const marks = { from: '<!-- figures -->', to: '<!-- /figures -->' };

/** Runs whose reports the page about reliability shows, in this order. */
const faultRuns: readonly Omit<FaultRun, 'report'>[] = [
  {
    title: 'Simulation',
    name: 'simulation',
    command: 'npm run simulate -- --seeds 10000 --out bench/results/simulation.json',
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
  const promises = await readPromises();
  const runs = faultRuns.map(async (run) => ({ ...run, report: await readReport(run.name) }));
  await write(reliabilityPath, reliabilityPage(promises, await Promise.all(runs)));
  await write(readmePath, replaceMarked(await readText(readmePath), readmeFigures(results)));
  return [performancePath, reliabilityPath, readmePath];
}

/** What is wrong with the published pages, as far as a clone without measurements can tell; empty when nothing is. */
export async function checkDocs(): Promise<readonly string[]> {
  const promises = await readPromises();
  const wrong = (await Promise.all(promises.flatMap(({ faults }) => faults.map(missingTest)))).filter(
    (text) => text !== null,
  );
  const page = await readText(reliabilityPath).catch(() => '');
  // The part alone, formatted, is the same text as in the page.
  if (!page.includes(formatted(promisesPart(promises)).trim())) {
    wrong.push(`${reliabilityPath} does not show e2e/promises.ts as it is: npm run bench -- --write-docs`);
  }
  return wrong;
}

async function readPromises(): Promise<readonly TestedPromise[]> {
  const { promises } = await import(new URL('e2e/promises.ts', root).href);
  return promises;
}

async function missingTest({ file, title }: TestedPromise['faults'][number]): Promise<string | null> {
  const text = await readText(file).catch(() => null);
  if (text === null) return `e2e/promises.ts names ${file}, which is not there`;
  const spellings = [title, title.replaceAll("'", "\\'"), title.replaceAll('`', '\\`')];
  return spellings.some((spelling) => text.includes(spelling)) ? null : `${file} has no test “${title}”`;
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

/** As the repository's formatter wants Markdown. */
function formatted(text: string): string {
  const { status, stdout, stderr } = spawnSync(formatter, ['format', '--stdin-file-path=page.md'], {
    ...{ input: text, encoding: 'utf8', cwd: fileURLToPath(root) },
  });
  if (status !== 0) throw new Error(`the formatter refused a page: ${stderr}`);
  return stdout;
}
