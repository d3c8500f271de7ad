import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ciDocument } from '@caisson/contracts/ci/document';
import { ciApiPage, errorPage } from './generate-pages.ts';

const documentPath = 'contracts/ci/openapi.json';
const generatorPath = 'contracts/generator/node_modules/openapi-typescript/bin/cli.js';
const typeFlags = ['--root-types', '--root-types-no-schema-prefix', '--root-types-keep-casing'];

/** Every generated file of the repository: path to content. */
function generatedFiles(): ReadonlyMap<string, string> {
  const documentJson = `${JSON.stringify(ciDocument(), null, 2)}\n`;
  return new Map([
    [documentPath, documentJson],
    ['contracts/ci/ci-api.generated.ts', typesOf(documentJson)],
    ['docs/ci-api.md', ciApiPage()],
    ['docs/errors.md', errorPage()],
  ]);
}

function typesOf(documentJson: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'caisson-generate-'));
  try {
    const input = join(directory, 'openapi.json');
    const output = join(directory, 'types.ts');
    writeFileSync(input, documentJson);
    execFileSync(process.execPath, [generatorPath, input, '-o', output, ...typeFlags], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return readFileSync(output, 'utf8');
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function contentOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function main(): void {
  const stale = [...generatedFiles()].filter(([path, content]) => contentOf(path) !== content);
  if (process.argv.includes('--check')) {
    for (const [path] of stale) console.error(`${path} is not what its source says`);
    if (stale.length > 0) console.error('run scripts/generate and commit the result');
    process.exitCode = stale.length > 0 ? 1 : 0;
    return;
  }
  for (const [path, content] of stale) {
    writeFileSync(path, content);
    console.log(`wrote ${path}`);
  }
}

main();
