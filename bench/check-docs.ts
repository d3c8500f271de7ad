import { readFile } from 'node:fs/promises';
import { promises } from '../e2e/promises.ts';
import { formatted } from './format-markdown.ts';
import { promisesPart } from './reliability-page.ts';

// Fails unless the published page shows the promises as they are; its figures are of whoever measured last.
const page = await readFile(new URL('../docs/reliability.md', import.meta.url), 'utf8').catch(() => '');
if (!page.includes(formatted(promisesPart(promises)).trim())) {
  process.stderr.write('docs/reliability.md differs from e2e/promises.ts: npm run bench -- --write-docs\n');
  process.exitCode = 1;
}
