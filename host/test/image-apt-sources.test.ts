import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { debianSourceLines } from '../image-apt-sources.ts';
import { tempDir } from './temp-dir.ts';

async function aptDir(files: Readonly<Record<string, string>>): Promise<string> {
  const dir = await tempDir();
  await mkdir(join(dir, 'sources.list.d'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  return dir;
}

test('stanzas of Debian are taken, those of others and disabled ones are not', async () => {
  const dir = await aptDir({
    'sources.list.d/debian.sources': [
      'Types: deb deb-src',
      '# a comment',
      'URIs: http://mirror.test/debian',
      'Suites: bookworm',
      ' bookworm-updates',
      'Components: main contrib',
      'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg',
      '',
      'Types: deb',
      'URIs: http://mirror.test/debian-security',
      'Suites: bookworm-security',
      'Components: main',
      '',
      'Enabled: no',
      'Types: deb',
      'URIs: http://disabled.test/debian',
      'Suites: bookworm',
      'Components: main',
    ].join('\n'),
    'sources.list.d/other.sources':
      'Types: deb\nURIs: http://node.test/node_20.x\nSuites: nodistro\nComponents: main\n',
    'sources.list.d/signed.sources':
      'Types: deb\nURIs: http://x.test/debian\nSuites: bookworm\nComponents: main\nSigned-By: /etc/apt/keyrings/x.gpg\n',
    'sources.list.d/off.sources.disabled':
      'Types: deb\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n',
  });
  expect(await debianSourceLines(dir, 'bookworm')).toEqual([
    'deb http://mirror.test/debian bookworm main',
    'deb http://mirror.test/debian bookworm-updates main',
    'deb http://mirror.test/debian-security bookworm-security main',
  ]);
});

test('one-line sources are taken, rewritten to the suite asked for', async () => {
  const dir = await aptDir({
    'sources.list': [
      'deb http://mirror.test/debian/ bookworm main non-free-firmware # main',
      'deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.test/debian bookworm-updates main',
      'deb-src http://mirror.test/debian bookworm main',
      '# deb http://commented.test/debian bookworm main',
    ].join('\n'),
    'sources.list.d/docker.list':
      'deb [signed-by=/etc/apt/keyrings/docker.asc] http://docker.test/linux/debian bookworm stable\n',
    'sources.list.d/pg.list': 'deb http://pg.test/pub/repos/apt bookworm-pgdg main\n',
  });
  expect(await debianSourceLines(dir, 'trixie')).toEqual([
    'deb http://mirror.test/debian/ trixie main',
    'deb http://mirror.test/debian trixie-updates main',
  ]);
});

test('a machine without Debian archives yields none, so that the default is used', async () => {
  expect(await debianSourceLines(join(await tempDir(), 'none'), 'bookworm')).toEqual([]);
});
