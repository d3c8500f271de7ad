import type { CliContext } from './context.ts';

/** Says what goes on while nothing else can be shown. */
export interface Progress {
  say(line: string): void;
  /** Leaves the screen as if nothing had been said. */
  done(): void;
}

const eraseLine = '\r\u001b[2K';

/** One line that changes in place on a terminal, a line for each step elsewhere, nothing with `--json`; warnings stay on the screen. */
export function makeProgress({ json, stderr, terminal }: CliContext): Progress {
  if (json) return { say: () => {}, done: () => {} };
  const isLive = terminal !== null && 'isTTY' in stderr && stderr.isTTY === true;
  if (!isLive) return { say: (line) => void stderr.write(`${line}\n`), done: () => {} };
  return {
    say(line) {
      const shown = line.slice(0, Math.max(20, terminal().columns - 1));
      stderr.write(line.startsWith('warning:') ? `${eraseLine}${line}\n` : `${eraseLine}${shown}`);
    },
    done: () => void stderr.write(eraseLine),
  };
}
