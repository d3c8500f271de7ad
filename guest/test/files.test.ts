import { mkdir, mkdtemp, readdir, readFile, readlink, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import type { GuestLink } from '../../host/guest-link.ts';
import { runToEnd, shell } from './agent-fixture.ts';
import { describeAgents } from './agent-variants.ts';

async function* chunks(...pieces: (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) yield typeof piece === 'string' ? Buffer.from(piece) : piece;
}

async function collect(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return Buffer.concat(pieces);
}

const codeOf = async (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => 'done',
    (error: { code: string }) => error.code,
  );

describeAgents('files', (agent) => {
  let link: GuestLink;
  let home: string;
  const at = (name: string): string => join(home, name);
  beforeAll(async () => {
    link = await agent().connect();
  });
  beforeEach(async () => {
    home = await mkdtemp(join(agent().directory, 'files-'));
  });

  test('are written whole and read back', async () => {
    const bytes = Buffer.from(Array.from({ length: 1_000_000 }, (_, index) => (index * 7919) & 0xff));
    await link.writeFile(at('big'), chunks(bytes.subarray(0, 5), bytes.subarray(5)), { mode: 0o751 });
    expect((await readFile(at('big'))).equals(bytes)).toBe(true);
    expect((await stat(at('big'))).mode & 0o7777).toBe(0o751);
    expect((await collect(link.readFile(at('big')))).equals(bytes)).toBe(true);
    await link.writeFile(at('empty'), chunks());
    expect((await collect(link.readFile(at('empty')))).length).toBe(0);
    expect((await stat(at('empty'))).mode & 0o7777).toBe(0o644);
  });

  test('are replaced at once, keeping mode and owner', async () => {
    await writeFile(at('old'), 'old', { mode: 0o640 });
    await runToEnd(link, shell(`chown 12:34 ${at('old')}`));
    const gate = Promise.withResolvers<void>();
    const writing = link.writeFile(
      at('old'),
      (async function* () {
        yield Buffer.from('ne');
        await gate.promise;
        yield Buffer.from('w');
      })(),
    );
    await link.ping();
    expect(await readFile(at('old'), 'utf8')).toBe('old');
    gate.resolve();
    await writing;
    expect(await readFile(at('old'), 'utf8')).toBe('new');
    expect(await stat(at('old'))).toMatchObject({ uid: 12, gid: 34 });
    expect((await stat(at('old'))).mode & 0o7777).toBe(0o640);
  });

  test('are written through a symlink, which stays', async () => {
    await writeFile(at('target'), 'old');
    await symlink('target', at('link'));
    await link.writeFile(at('link'), chunks('new'));
    expect(await readlink(at('link'))).toBe('target');
    expect(await readFile(at('target'), 'utf8')).toBe('new');
  });

  test('a write that is broken off leaves nothing', async () => {
    const failing = (async function* () {
      yield Buffer.alloc(200_000);
      throw new Error('the source failed');
    })();
    await expect(link.writeFile(at('never'), failing)).rejects.toThrow('the source failed');
    const probe = await agent().connect(); // the worker removes its file when it sees that nobody writes any more
    const writing = expect(probe.writeFile(at('never'), endless())).rejects.toMatchObject({ code: 'guest_lost' });
    await probe.ping();
    link = await agent().connect();
    await writing;
    while ((await readdir(home)).length > 0) await link.ping();
  });

  test('a write that is refused says why', async () => {
    await mkdir(at('dir'));
    expect(await codeOf(link.writeFile(at('no/such'), chunks('x')))).toBe('not_found');
    expect(await codeOf(link.writeFile(at('dir'), chunks('x')))).toBe('invalid_argument');
    expect(await codeOf(link.writeFile('/dev/null', chunks('x')))).toBe('invalid_argument');
    expect(await codeOf(link.writeFile(at('new/'), chunks('x')))).toBe('invalid_argument');
    expect(await codeOf(link.writeFile('relative', chunks('x')))).toBe('invalid_argument');
    expect(await codeOf(link.writeFile('/proc/self/x', chunks('x')))).toMatch(/not_found|permission_denied/);
    expect(await codeOf(link.writeFile(at('dir'), endless()))).toBe('invalid_argument');
    expect(await codeOf(link.writeFile(at('x'), chunks('x'), { mode: 0o10000 }))).toBe('invalid_argument');
  });

  test('a read that is refused says why', async () => {
    await runToEnd(link, shell(`mkfifo ${at('pipe')}`));
    expect(await codeOf(collect(link.readFile(at('missing'))))).toBe('not_found');
    expect(await codeOf(collect(link.readFile(home)))).toBe('invalid_argument');
    expect(await codeOf(collect(link.readFile(at('pipe'))))).toBe('invalid_argument');
    expect(await codeOf(collect(link.readFile('/dev/zero')))).toBe('invalid_argument');
    await writeFile(at('file'), 'x');
    expect(await codeOf(collect(link.readFile(at('file/x'))))).toBe('not_a_directory');
    expect(await codeOf(collect(link.readFile(`/${'x'.repeat(5000)}`)))).toBe('invalid_argument');
  });

  test('a read that is left early costs nothing more', async () => {
    await truncate(at('file'), 0).catch(() => writeFile(at('file'), ''));
    await truncate(at('file'), 10_000_000_000);
    for await (const piece of link.readFile(at('file'))) {
      expect(piece.length).toBeGreaterThan(0);
      break;
    }
    expect(await link.ping()).toBeLessThan(5_000);
  });

  test('more requests than the agent takes at once wait their turn', async () => {
    await Promise.all(
      Array.from({ length: 100 }, async (_, index) => link.writeFile(at(`${index}`), chunks(`${index}`))),
    );
    const read = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => collect(link.readFile(at(`${index}`)))),
    );
    expect(read.map((bytes) => bytes.toString())).toEqual(Array.from({ length: 100 }, (_, index) => `${index}`));
  });

  test('are described without following symlinks', async () => {
    await writeFile(at('file'), 'four');
    await symlink('/nowhere', at('link'));
    expect(await link.stat(at('file'))).toMatchObject({ name: 'file', type: 'file', sizeBytes: 4, uid: 0, gid: 0 });
    expect(Math.abs((await link.stat(at('file'))).modifiedAtMs - (await stat(at('file'))).mtimeMs)).toBeLessThan(2);
    expect(await link.stat(at('link'))).toMatchObject({ name: 'link', type: 'symlink' });
    expect(await link.stat(`${home}/`)).toMatchObject({ type: 'directory' });
    expect(await link.stat('/')).toMatchObject({ name: '/', type: 'directory' });
    expect(await link.stat('/dev/null')).toMatchObject({ type: 'other' });
    expect(await codeOf(link.stat(at('missing')))).toBe('not_found');
    expect(await codeOf(link.stat(''))).toBe('invalid_argument');
    expect(await codeOf(link.stat('/a\0b'))).toBe('invalid_argument');
  });

  test('of a directory are listed, many too', async () => {
    await runToEnd(link, shell('seq -f "file-number-%g" 1 5000 | xargs touch', { cwd: home }));
    const names = (await link.list(home)).map((entry) => entry.name);
    expect(names.sort()).toEqual(Array.from({ length: 5000 }, (_, index) => `file-number-${index + 1}`).sort());
    expect(await codeOf(link.list(at('file-number-1')))).toBe('not_a_directory');
    expect(await codeOf(link.list(at('missing')))).toBe('not_found');
    await mkdir(at('empty'));
    expect(await link.list(at('empty'))).toEqual([]);
  });

  test('directories are made, with their parents when asked', async () => {
    expect(await codeOf(link.mkdir(at('a/b/c')))).toBe('not_found');
    await link.mkdir(at('a/b/c/'), { parents: true, mode: 0o1777 });
    expect((await stat(at('a/b/c'))).mode & 0o7777).toBe(0o1777);
    await link.mkdir(at('a/b/c'), { parents: true });
    expect(await codeOf(link.mkdir(at('a')))).toBe('already_exists');
    await writeFile(at('file'), '');
    expect(await codeOf(link.mkdir(at('file'), { parents: true }))).toBe('already_exists');
    expect(await codeOf(link.mkdir(at('file/x'), { parents: true }))).toBe('not_a_directory');
  });

  test('are removed, trees only when asked', async () => {
    await mkdir(at('tree/a/b'), { recursive: true });
    await writeFile(at('tree/a/file'), '');
    await symlink('tree', at('link'));
    expect(await codeOf(link.remove(at('tree')))).toBe('invalid_argument');
    await link.remove(at('link'), { recursive: true });
    expect(await readdir(at('tree'))).toEqual(['a']);
    await link.remove(at('tree/a/file'));
    await link.remove(at('tree/a/b'));
    await link.remove(at('tree'), { recursive: true });
    expect(await readdir(home)).toEqual([]);
    expect(await codeOf(link.remove(at('tree')))).toBe('not_found');
    expect(await codeOf(link.remove('/', { recursive: true }))).toBe('invalid_argument');
    expect(await codeOf(link.remove(`${home}/..`, { recursive: true }))).toBe('invalid_argument');
  });

  test('a removal never follows a symlink out of the tree', async () => {
    await mkdir(at('outside'));
    await writeFile(at('outside/keep'), '');
    await mkdir(at('tree/in'), { recursive: true });
    await symlink(at('outside'), at('tree/in/link'));
    await link.remove(at('tree'), { recursive: true });
    expect(await readdir(home)).toEqual(['outside']);
    expect(await readdir(at('outside'))).toEqual(['keep']);
  });

  test('a tree deeper than any path and wider than any buffer is removed', async () => {
    const deep =
      'i=0; while [ $i -lt 600 ]; do mkdir d-with-a-long-name; touch f; cd -P d-with-a-long-name; i=$((i+1)); done';
    await runToEnd(link, shell(`mkdir tree wide; cd tree; ${deep}`, { cwd: home }));
    await runToEnd(link, shell('seq 1 3000 | xargs touch; mkdir x y; seq 1 500 | xargs mkdir -p', { cwd: at('wide') }));
    await link.remove(at('tree'), { recursive: true });
    await link.remove(at('wide'), { recursive: true });
    expect(await readdir(home)).toEqual([]);
  });
});

async function* endless(): AsyncGenerator<Uint8Array> {
  for (;;) yield Buffer.alloc(10_000);
}
