import picocolors from 'picocolors';
import type { Job } from './build-requests.ts';
import type { BuildView } from './follow-build.ts';
import { depthsOf, markOf, nameOf, noteOf } from './job-text.ts';
import { makeLineWriter } from './line-writer.ts';
import { type ShowOptions, summaryOf } from './show-plain.ts';

interface ShowLiveOptions extends ShowOptions {
  /** Size of the terminal now. */
  readonly size: () => { readonly rows: number; readonly columns: number };
}

const eraseDown = '\u001b[0J';
const up = (lines: number) => (lines > 0 ? `\u001b[${lines}A\r` : '\r');

/** A tree of the jobs that stays at the bottom of the terminal and changes in place, with logs scrolling above it. */
export function showLive({ write, hasColors, size }: ShowLiveOptions): BuildView {
  const colors = picocolors.createColors(hasColors);
  let jobs: readonly Job[] = [];
  let drawn = 0;
  const lines = makeLineWriter((name, line) => above(`${colors.dim(`${name} |`)} ${line}\n`));

  function above(text: string): void {
    write(`${up(drawn)}${eraseDown}${text}`);
    drawn = 0;
    draw();
  }

  function draw(): void {
    const { rows, columns } = size();
    const tree = treeOf(jobs, { rows: rows - 2, columns, colors });
    write(`${up(drawn)}${eraseDown}${tree.map((line) => `${line}\n`).join('')}`);
    drawn = tree.length;
  }

  return {
    update(_build, now) {
      jobs = now;
      draw();
    },
    log: (job, _stream, text) => lines.write(nameOf(job), text),
    tick: draw,
    finish(build, now) {
      jobs = now;
      lines.flush();
      draw();
      write(summaryOf(build, now, hasColors));
    },
  };
}

interface TreeOptions {
  readonly rows: number;
  readonly columns: number;
  readonly colors: ReturnType<typeof picocolors.createColors>;
}

/** One line a job, indented by what it waits for; a terminal too short for all shows those under way and counts the rest. */
function treeOf(jobs: readonly Job[], { rows, columns, colors }: TreeOptions): readonly string[] {
  const depths = depthsOf(jobs);
  const width = Math.max(0, ...jobs.map((job) => nameOf(job).length + 2 * (depths.get(job.id) ?? 0)));
  const nowMs = Date.now();
  const lineOf = (job: Job) => {
    const name = `${'  '.repeat(depths.get(job.id) ?? 0)}${nameOf(job)}`;
    const text = `${name.padEnd(width)}  `.slice(0, Math.max(10, columns - 16));
    return `  ${markOf(job, colors)} ${text}${colors.dim(noteOf(job, nowMs))}`;
  };
  if (jobs.length <= rows) return jobs.map(lineOf);
  const active = jobs.filter(({ state }) => state !== 'pending' && state !== 'passed' && state !== 'skipped');
  const shown = active.slice(-Math.max(1, rows - 1));
  const passed = jobs.filter(({ state }) => state === 'passed').length;
  return [...shown.map(lineOf), colors.dim(`  … ${passed} of ${jobs.length} passed`)];
}
