import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { diskPlace, qemuSockets } from './qemu-arguments.ts';
import type { QmpClient } from './qmp-client.ts';

/** A disk: the file it is and what lies under that, top first. */
export interface DiskChain {
  readonly writable: boolean;
  readonly chain: readonly DiskFile[];
}

export interface DiskFile {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
}

interface DiskInsertion {
  /** The agent's binary, which can pass open files on. */
  readonly agentPath: string;
  readonly runDir: string;
  readonly qmp: QmpClient;
  readonly disks: readonly DiskChain[];
  /** Whether other disks come into their places later. */
  readonly isRehearsal?: boolean;
}

/** Numbers of sets of files in QEMU. */
const firstSets = { real: 1, rehearsal: 500 } as const;

/**
 * Puts disks into a QEMU whose guest has not looked at their places yet, the first into place 0. QEMU gets them as open files and every
 * chain spelled out: it needs no path, and what a disk written by a stranger says lies under it is not looked at. Throws `io_error`.
 */
export async function insertDisks({
  agentPath,
  runDir,
  qmp,
  disks,
  isRehearsal = false,
}: DiskInsertion): Promise<void> {
  const files = disks.flatMap(({ writable, chain }) =>
    chain.map(({ path }, depth) => ({ path, isWritten: writable && depth === 0 })),
  );
  let set: number = isRehearsal ? firstSets.rehearsal : firstSets.real;
  const sets = files.map((_, index) => set + index);
  await giveFiles([agentPath, 'give-files', join(runDir, qemuSockets.files), ...sets.map(String)], files);
  for (const [number, { writable, chain }] of disks.entries()) {
    const place = diskPlace(number);
    const node = isRehearsal ? `${place}-rehearsal` : place;
    const numbered = chain.map(({ format }) => ({ format, set: set++ }));
    await qmp.execute('blockdev-add', {
      ...blockNode(numbered),
      'node-name': node,
      'read-only': !writable,
      // Nothing a machine writes is promised to survive a loss of power before it is kept, and keeping it syncs.
      cache: { 'no-flush': true },
      ...(writable ? { discard: 'unmap', 'detect-zeroes': 'unmap' } : {}),
    });
    const device = `/machine/peripheral/${place}`;
    await qmp.execute('qom-set', { path: device, property: 'drive', value: node });
  }
}

interface NumberedFile {
  readonly format: DiskFile['format'];
  readonly set: number;
}

function blockNode([top, ...below]: readonly NumberedFile[]): object {
  const file = { driver: 'file', filename: `/dev/fdset/${top?.set}`, locking: 'off' };
  const backing = below.length > 0 ? { backing: blockNode(below) } : top?.format === 'qcow2' ? { backing: null } : {};
  return { driver: top?.format, file, ...backing };
}

async function giveFiles(
  argv: readonly [string, ...string[]],
  files: readonly { readonly path: string; readonly isWritten: boolean }[],
): Promise<void> {
  const opened = await Promise.allSettled(
    files.map(({ path, isWritten }) => open(path, isWritten ? constants.O_RDWR : constants.O_RDONLY)),
  );
  try {
    const fds = opened.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value.fd;
    });
    await runGiver(argv, fds);
  } finally {
    await Promise.all(opened.map((result) => (result.status === 'fulfilled' ? result.value.close() : undefined)));
  }
}

function runGiver([program, ...words]: readonly [string, ...string[]], fds: readonly number[]): Promise<void> {
  const child = spawn(program, words, { stdio: ['ignore', 'ignore', 'pipe', ...fds], env: {} });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let said = '';
  child.stderr?.on('data', (chunk) => {
    said = (said + chunk).slice(-1_000);
  });
  child.once('error', reject);
  child.once('close', (code) => {
    if (code === 0) resolve();
    else reject(new AppError('io_error', `the disks could not be handed to QEMU: ${said.trim()}`));
  });
  return promise;
}
