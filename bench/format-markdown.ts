import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const formatter = fileURLToPath(new URL('../node_modules/.bin/biome', import.meta.url));

/** Markdown as the repository's formatter wants it: the columns of tables line up. */
export function formatted(text: string): string {
  const { status, stdout, stderr } = spawnSync(formatter, ['format', '--stdin-file-path=page.md'], {
    ...{ input: text, encoding: 'utf8', cwd: root },
  });
  if (status !== 0) throw new Error(`the formatter refused a page: ${stderr}`);
  return stdout;
}
