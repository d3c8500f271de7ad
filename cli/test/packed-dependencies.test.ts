import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const run = promisify(execFile);
const root = new URL('../..', import.meta.url);

/** Where a program like `./caisson` finds a package, and what it exports. */
async function look(before: string, name: string): Promise<{ url: string; exports: string[] }> {
  const code = `${before};
    console.log(JSON.stringify({ url: import.meta.resolve('${name}'), exports: Object.keys(await import('${name}')).sort() }))`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code], {
    cwd: new URL('server/', root),
  });
  return JSON.parse(stdout);
}

test.each(['kysely', 'pg', 'fastify', 'pg-boss'])(
  '%s is taken packed and exports what the package does',
  async (name) => {
    const use = `(await import('${new URL('cli/packed-dependencies.ts', root)}')).usePackedDependencies()`;
    const [packed, original] = await Promise.all([look(use, name), look('', name)]);
    expect(packed.url).toBe(new URL(`node_modules/.caisson/packed/${name}.mjs`, root).href);
    expect(packed.exports).toEqual(original.exports.filter((one) => one !== 'module.exports'));
  },
);
