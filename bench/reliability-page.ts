import type { PromiseKept } from '../e2e/promises.ts';
import { figure } from './figure.ts';
import { markdownTable } from './markdown-table.ts';

/** What a run of faults counted; every number of it becomes a line. */
export interface FaultRun {
  readonly title: string;
  /** Of its report: `bench/results/<name>.json`. */
  readonly name: string;
  /** What repeats it. */
  readonly command: string;
  /** JSON of the run: numbers by name, `commit`, `machine`, and `points` when it killed at named places. Null: not run here yet. */
  readonly report: Readonly<Record<string, unknown>> | null;
}

const opening = `# Reliability

What Caisson promises when something breaks, the faults under which a test shows it, and how to repeat each of them. \`npm test\` runs them all; the command of a line runs that test alone. Where there are figures, they come from the run named with them. Performance has [a page of its own](performance.md).

The tables are written by \`npm run bench -- --write-docs\` from \`e2e/promises.ts\` and from the reports in \`bench/results\`; \`npm run check\` says when they differ, and \`npm test\` when a test named here does not exist.
`;

/** The text of `docs/reliability.md`. */
export function reliabilityPage(promises: readonly PromiseKept[], runs: readonly FaultRun[]): string {
  return [opening, promisesPart(promises), ...runs.map(runSection)].join('\n');
}

/** The part of the page that depends on `e2e/promises.ts` alone. */
export function promisesPart(promises: readonly PromiseKept[]): string {
  const overview = promises.map(({ id, promise, faults }) => [`[${id}](#${id})`, promise, `${faults.length}`]);
  const sections = promises.map(({ id, promise, faults }) => {
    const lines = faults.map(({ fault, file, title }) => [fault, `\`${testCommand(file, title)}\``]);
    return `### ${id}\n\n${promise}\n\n${markdownTable(['Fault', 'Repeat it'], lines)}\n`;
  });
  return ['## Promises\n', `${markdownTable(['', 'Promise', 'Faults'], overview)}\n`, ...sections].join('\n');
}

/** vitest takes a regular expression; what a table fills in (`%s`, `$name`) may be anything. */
function testCommand(file: string, title: string): string {
  const escaped = title.replace(/[.*+?^${}()[\]\\|]/g, '\\$&');
  const pattern = escaped.replace(/%[sdifjo#]|\\\$[a-z]\w*/gi, '.*');
  return `npm test -- ${file} -t ${pattern.includes("'") ? `"${pattern.replace(/["`$\\]/g, '\\$&')}"` : `'${pattern}'`}`;
}

function runSection({ title, command, report }: FaultRun): string {
  if (report === null) return `## ${title}\n\nNot run when this page was written: \`${command}\`\n`;
  const { commit, machine, points, ...rest } = report;
  // Of a list, like that of violations, its length is the figure.
  const figures = Object.entries(rest).map(
    ([name, value]) => [name, Array.isArray(value) ? value.length : value] as const,
  );
  const counted = figures.flatMap(([name, value]) =>
    typeof value === 'number' ? [[words(name), numberText(value)]] : [],
  );
  const facts = [
    `\`${command}\``,
    ...(typeof commit === 'string' ? [`commit ${commit}`] : []),
    ...(machine ? [machineText(machine)] : []),
  ];
  return [
    `## ${title}\n`,
    ...(counted.length > 0 ? [`${markdownTable(['', ''], counted)}\n`] : []),
    ...(Array.isArray(points) ? [`${pointsTable(points)}\n`] : []),
    `${facts.join(' · ')}\n`,
  ].join('\n');
}

/** Named places at which a process was killed, with whatever was counted at each. */
function pointsTable(points: readonly Readonly<Record<string, unknown>>[]): string {
  const columns = [...new Set(points.flatMap((point) => Object.keys(point)))];
  return markdownTable(
    columns.map(words),
    points.map((point) => columns.map((column) => String(point[column] ?? ''))),
  );
}

function words(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function numberText(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString('en') : figure(value, '').trim();
}

function machineText(machine: unknown): string {
  if (typeof machine === 'string') return machine;
  const { cpu, cores, memory, kernel } = machine as Record<string, string>;
  return [cpu, cores && `${cores} cores`, memory, kernel && `kernel ${kernel}`].filter(Boolean).join(', ');
}
