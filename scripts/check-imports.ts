import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

/** Who may import whom, house.md's law as data. A package may always import itself. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  pipeline: [],
  core: ['pipeline'],
  contracts: ['core', 'pipeline'],
  host: ['contracts', 'core', 'pipeline'],
  server: ['contracts', 'core', 'pipeline'],
  cli: ['contracts', 'core', 'pipeline', 'host', 'server'],
};

const importPattern = /\b(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g;

/** Every import of one file that breaks the law, as lines to print. */
function breaches(path: string): string[] {
  const owner = path.split('/')[0] ?? '';
  const text = readFileSync(path, 'utf8');
  const found: string[] = [];
  for (const match of text.matchAll(importPattern)) {
    const name = match[1] ?? '';
    const line = text.slice(0, match.index).split('\n').length;
    if (name.startsWith('.')) {
      const target = normalize(join(dirname(path), name)).split('/')[0];
      if (target !== owner) found.push(`${path}:${line}: ${name} leaves ${owner}; import the package by name`);
    }
    const other = /^@caisson\/([^/]+)/.exec(name)?.[1];
    if (other && other !== owner && !allowed[owner]?.includes(other)) {
      found.push(`${path}:${line}: ${owner} must not import ${name}`);
    }
  }
  if (owner === 'core' || owner === 'pipeline') found.push(...impurities(path, text));
  return found;
}

/** What neither Biome nor tsc refuses: randomness in the packages that must be pure. */
function impurities(path: string, text: string): string[] {
  if (path.includes('/test/') || !text.includes('Math.random')) return [];
  return [`${path}: Math.random is not for ${path.split('/')[0]}; randomness comes in as an argument`];
}

const files = globSync('{pipeline,core,contracts,host,server,cli}/**/*.ts').filter(
  (path) => !path.includes('node_modules/') && !path.startsWith('contracts/generator/'),
);
const lines = files.flatMap(breaches);
for (const line of lines) console.error(line);
if (lines.length > 0) process.exit(1);
