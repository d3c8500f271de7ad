import { execFile } from 'node:child_process';
import { chmod, chown, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { idMap } from '../id-map.ts';

const busyboxPath = '/bin/busybox';

/** Makes a root filesystem of two megabytes in `directory`: busybox (Debian's busybox-static), its commands, a few users. */
export async function makeTinyImage(directory: string): Promise<void> {
  for (const path of ['bin', 'etc', 'root', 'tmp', 'home', 'var'])
    await mkdir(join(directory, path), { recursive: true });
  await copyFile(busyboxPath, join(directory, 'bin/busybox'));
  const { stdout } = await promisify(execFile)(busyboxPath, ['--list']);
  const applets = stdout.split('\n').filter((name) => name !== '' && name !== 'busybox');
  await Promise.all(applets.map((name) => symlink('busybox', join(directory, 'bin', name))));
  await writeFile(join(directory, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n');
  await writeFile(join(directory, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  await promisify(execFile)('chown', ['-hR', `${idMap.baseId}:${idMap.baseId}`, directory]);
  await chown(directory, idMap.baseId, idMap.baseId);
  await chmod(join(directory, 'tmp'), 0o1777);
}
