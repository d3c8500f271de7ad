import { execFile } from 'node:child_process';
import { chmod, chown, copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { idMap } from '../id-map.ts';
import { createLayerStore } from '../layer-disk.ts';
import type { Machine } from '../machine-driver.ts';
import { buildHostileProgram } from './hostile-program.ts';
import { openTestDriver, runInside, type TestDriver } from './test-driver.ts';

const run = promisify(execFile);
let test: TestDriver;
let count = 0;

beforeAll(async () => {
  test = await openTestDriver();
  await buildHostileProgram(join(test.imageDir, 'bin/hostile-probe'));
});
afterAll(() => test.end());

describe('what a capsule leaves on its disk', () => {
  it('as setuid files and file capabilities gives a later capsule nothing', async () => {
    const script = `cp /bin/hostile-probe /bin/setuid; chmod 4755 /bin/setuid; cp /bin/hostile-probe /bin/capable
      /bin/hostile-probe set_file_capability /bin/capable; mkdir /x; cp /bin/busybox /x/busybox; chmod 6755 /x/busybox`;
    await inChildOf(script, async (child) => {
      const { stdout } = await runInside(child, 'stat -c %a /bin/setuid');
      expect(stdout).toBe('4755\n');
      for (const program of ['setuid', 'capable']) {
        const end = await runInside(child, `/bin/${program} effective_rights`, { user: 'nobody' });
        expect(end).toMatchObject({ exitCode: 1, stdout: 'Operation not permitted\n' });
      }
      expect((await runInside(child, '/x/busybox id -u', { user: 'nobody' })).stdout).toBe('65534\n');
    });
  });

  it('as a program with a file capability still starts', async () => {
    const script = 'cp /bin/busybox /bin/ping; /bin/hostile-probe set_file_capability /bin/ping';
    await inChildOf(`rm /bin/ping; ${script}`, async (child) => {
      expect((await runInside(child, 'ping -c 1 127.0.0.1 || /bin/ping --help')).stderr).not.toMatch(/not permitted/);
    });
  });

  it('as user attributes that look like those of an overlay changes nothing below', async () => {
    const marks = ['/etc', '/home', '/bin'].map((path) => `/bin/hostile-probe user_marks ${path}`).join('; ');
    await inChildOf(`${marks}; echo mine > /etc/mine`, async (child) => {
      const { stdout } = await runInside(child, 'cat /etc/mine; head -n 1 /etc/group; ls -d /bin/sh; ls -A /home');
      expect(stdout).toBe('mine\nroot:x:0:\n/bin/sh\n');
    });
  });

  it('as whiteouts hides what is below from its own children only', async () => {
    await inChildOf('rm -rf /etc/group /home', async (child) => {
      expect((await runInside(child, 'ls -d /etc/group /home')).stdout).toBe('');
    });
    expect(await readdir(test.imageDir)).toContain('home');
    const other = await test.driver.create(test.spec('untouched'));
    expect((await runInside(other, 'ls -d /etc/group /home')).stdout).toBe('/etc/group\n/home\n');
    await other.destroy();
  });

  it.each([
    ['/workspace', '/'],
    ['/workspace', '../../../../..'],
    ['/etc/resolv.conf', '/tmp/leads-here'],
    ['/etc/resolv.conf', '../../../../../etc/caisson-escape'],
    ['/etc/hosts', '/proc/1/root/etc/caisson-escape'],
    ['/etc', '/tmp'],
    ['/.caisson', '/tmp'],
    ['/.caisson', '/proc/self/root'],
    ['/opt', '/proc/self/cwd/../../../..'],
  ])('as a link at %s to %s never leads the host out of the capsule', async (path, target) => {
    const hosts = await Promise.all(['/etc', '/tmp', '/'].map((directory) => run('ls', ['-A', directory])));
    const layer = await layerWith(async (directory) => {
      await mkdir(join(directory, path, '..'), { recursive: true });
      await symlink(target, join(directory, path));
    });
    const binds = [{ from: test.imageDir, to: '/opt/tools' }];
    const capsule = await create({ layers: [layer, test.imageDir], readOnlyBinds: binds });
    if (capsule !== null) {
      await runInside(capsule, 'echo x > /workspace/x; echo x > /etc/resolv.conf; cat /etc/resolv.conf');
      await capsule.destroy();
    }
    const after = await Promise.all(['/etc', '/'].map((directory) => run('ls', ['-A', directory])));
    expect(after.map(({ stdout }) => stdout)).toEqual([hosts[0]?.stdout, hosts[2]?.stdout]);
    expect(await test.driver.list()).toEqual([]);
  });

  it.each(['/proc/self/cwd', '/proc/1/cwd'])('as %s in the place of the agent does not start', async (target) => {
    const layer = await layerWith(async (directory) => {
      await symlink(target, join(directory, '.caisson'));
      await copyFile(join(test.imageDir, 'bin/hostile-probe'), join(directory, 'agent'));
    });
    const start = test.driver.create(test.spec('impostor', { layers: [layer, test.imageDir] }));
    await expect(start).rejects.toMatchObject({ code: 'provision_failed' });
    expect(await test.driver.list()).toEqual([]);
  });

  it.each(['proc', 'dev', 'sys', 'etc', '.caisson'])(
    'as a file or a loop at /%s is a clear error or none',
    async (name) => {
      for (const isLoop of [true, false]) {
        const layer = await layerWith((directory) =>
          isLoop ? symlink(name, join(directory, name)) : writeFile(join(directory, name), ''),
        );
        const capsule = await create({ layers: [layer, test.imageDir] });
        await capsule?.destroy();
        expect(await test.driver.list()).toEqual([]);
      }
    },
  );
});

describe('a user of the host', () => {
  const asNobody = (program: string, ...argv: readonly string[]) =>
    run(program, argv, { uid: 65534, gid: 65534, cwd: '/' });

  it('cannot enter the disk of a running capsule, nor run its setuid files', async () => {
    const machine = await test.driver.create(test.spec('private'));
    await runInside(machine, 'mkdir /x; cp /bin/busybox /x/busybox; chmod 4755 /x/busybox');
    // Nothing of it is mounted out here: what there is, is the way through its processes and its writable layer.
    expect((await run('cat', ['/proc/mounts'])).stdout).not.toMatch(/private/);
    const pid = (await machine.writable?.processes())?.[0];
    for (const disk of [`/proc/${pid}/root`, join(test.dataDir, 'capsules/private/upper')]) {
      expect((await run('ls', [join(disk, 'x')])).stdout).toBe('busybox\n');
      await expect(asNobody(join(disk, 'x/busybox'), 'id', '-u')).rejects.toThrow(/denied|EACCES/);
      await expect(asNobody('ls', join(disk, 'x'))).rejects.toThrow(/denied|EACCES/);
    }
    await machine.destroy();
  });

  it('cannot enter a sealed disk', async () => {
    const dataDir = join(test.dataDir, 'store');
    await mkdir(dataDir);
    const layers = await createLayerStore({ dataDir, budgetBytes: 1e12 });
    const machine = await test.driver.create(test.spec('sealed'));
    await runInside(machine, 'mkdir /x; cp /bin/busybox /x/busybox; chmod 4755 /x/busybox; chmod 777 /');
    const { upperDir } = await machine.stop();
    await layers.seal('kept', upperDir, []);
    await machine.destroy();
    const [directory = ''] = layers.directories(['kept']);
    await run('chmod', ['755', test.dataDir]);
    await expect(asNobody('ls', join(test.dataDir, 'store'))).resolves.toBeDefined();
    await expect(asNobody(join(directory, 'x/busybox'), 'id', '-u')).rejects.toThrow(/denied|EACCES/);
    await run('chmod', ['700', test.dataDir]);
  });
});

/** Runs `script` in a capsule and then `look` in one that starts from its disk. */
async function inChildOf(script: string, look: (child: Machine) => Promise<void>): Promise<void> {
  const parent = await test.driver.create(test.spec(`parent${count}`));
  await runInside(parent, script);
  const { upperDir } = await parent.stop();
  const child = await test.driver.create(test.spec(`child${count++}`, { layers: [upperDir, test.imageDir] }));
  try {
    await look(child);
  } finally {
    await child.destroy();
    await parent.destroy();
  }
}

async function create(changes: Parameters<TestDriver['spec']>[1]): Promise<Machine | null> {
  return test.driver.create(test.spec(`odd${count++}`, changes)).catch((error: { code: string }) => {
    expect(error).toMatchObject({ code: 'provision_failed' });
    return null;
  });
}

/** A layer as a capsule could have made it. */
async function layerWith(fill: (directory: string) => Promise<unknown>): Promise<string> {
  const directory = join(test.dataDir, 'layers', `made${count++}`, 'diff');
  await mkdir(directory, { recursive: true });
  await fill(directory);
  await run('chown', ['-hR', `${idMap.baseId}:${idMap.baseId}`, directory]);
  await chown(directory, idMap.baseId, idMap.baseId);
  await chmod(directory, 0o755);
  return directory;
}
