import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { repositoryDir } from '../cli/installation.ts';

const formatter = join(repositoryDir, 'node_modules/.bin/biome');

/** Markdown as the repository's formatter wants it: the columns of tables line up. */
export function formatted(text: string): string {
  const { status, stdout, stderr } = spawnSync(formatter, ['format', '--stdin-file-path=page.md'], {
    ...{ input: text, encoding: 'utf8', cwd: repositoryDir },
  });
  if (status !== 0) throw new Error(`the formatter refused a page: ${stderr}`);
  return stdout;
}
