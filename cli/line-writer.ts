/** Turns pieces of several jobs' output into whole lines, so that they never mix within one. */
interface LineWriter {
  write(name: string, text: string): void;
  /** Writes what is left without a line end. */
  flush(): void;
}

// What a job prints may hold sequences that move the cursor or rename the terminal; colors are all that is let through.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const escapes = /\u001b(?:\[[0-9;:?]*[A-Za-z]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\^_])/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const color = /^\u001b\[[0-9;:]*m$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const controls = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f\u0080-\u009f]/g;
const longestLine = 64 * 1024;

export function makeLineWriter(writeLine: (name: string, line: string) => void): LineWriter {
  const open = new Map<string, string>();
  const show = (name: string, line: string) => writeLine(name, sanitizeLine(line));
  return {
    write(name, text) {
      const lines = ((open.get(name) ?? '') + text).split('\n');
      const rest = lines.pop() ?? '';
      for (const line of lines) show(name, line);
      if (rest.length > longestLine) show(name, rest);
      open.set(name, rest.length > longestLine ? '' : rest);
    },
    flush() {
      for (const [name, rest] of open) if (rest !== '') show(name, rest);
      open.clear();
    },
  };
}

/** One line as a terminal may show it: of a progress bar its last state, no control but colors. */
function sanitizeLine(line: string): string {
  const parts = line.replace(/\r+$/, '').split('\r');
  const last = parts.at(-1) ?? '';
  return last.replace(escapes, (sequence) => (color.test(sequence) ? sequence : '')).replace(controls, '');
}
