import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { isErrno } from './container-errors.ts';
import { writeAtomically } from './write-atomically.ts';

/** One data directory's share of the machine. Its id is in every name that other installations could collide with. */
export interface Installation {
  /** Six hex digits, chosen once per data directory. */
  readonly id: string;
  readonly dataDir: string;
  /** Holds one directory per capsule: its writable layer and `state.json`. */
  readonly capsulesDir: string;
  /** Holds one directory per vessel: socket, bundle. On a tmpfs that a reboot empties. */
  readonly runDir: string;
  /** Cgroup path below each hierarchy's root under which the vessels' groups are. */
  readonly cgroupPath: string;
}

/** Where a capsule's disk and what is known of it are. */
export interface CapsuleLayout {
  readonly capsuleId: string;
  readonly stateDir: string;
  readonly stateFile: string;
  readonly upperDir: string;
  readonly workDir: string;
}

/** Where everything of a vessel is: the container that was started before it was known which capsule it would be. */
export interface VesselLayout {
  readonly vesselId: string;
  readonly runDir: string;
  readonly bundleDir: string;
  readonly runtimeDir: string;
  readonly socketPath: string;
  readonly pidFile: string;
  readonly cgroupPath: string;
}

/** The kernel's limit for a unix socket's path, without the closing zero. */
const maxSocketPathBytes = 107;

/**
 * Opens or founds the installation in `dataDir`; `runRoot` holds the run directories of all installations. Throws `runtime_unavailable`
 * when this process is not root.
 */
export async function openInstallation(dataDir: string, runRoot: string): Promise<Installation> {
  if (process.getuid?.() !== 0)
    throw new AppError('runtime_unavailable', 'whoever runs capsules has to be root: start Caisson with sudo');
  await mkdir(dataDir, { recursive: true });
  const id = await readOrMakeId(join(dataDir, 'installation.json'));
  const installation = {
    id,
    dataDir,
    capsulesDir: join(dataDir, 'capsules'),
    runDir: join(runRoot, id),
    cgroupPath: `caisson/${id}`,
  };
  await mkdir(installation.capsulesDir, { recursive: true, mode: 0o700 });
  await mkdir(installation.runDir, { recursive: true });
  // The container's root is an ordinary user out here and must be able to reach its mount point, but not to list the neighbours.
  await Promise.all([chmod(runRoot, 0o711), chmod(installation.runDir, 0o711)]);
  return installation;
}

async function readOrMakeId(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  });
  const id: unknown = text === null ? undefined : JSON.parse(text).installationId;
  if (typeof id === 'string' && /^[0-9a-f]{6}$/.test(id)) return id;
  if (text !== null) throw new AppError('provision_failed', `${path} holds no installation id; move it away`);
  const fresh = randomBytes(3).toString('hex');
  await writeAtomically(path, `${JSON.stringify({ installationId: fresh })}\n`);
  return fresh;
}

/** Throws `invalid_argument` for an id that is no plain file name. */
export function layoutOf(installation: Installation, capsuleId: string): CapsuleLayout {
  checkId(capsuleId);
  const stateDir = join(installation.capsulesDir, capsuleId);
  return {
    capsuleId,
    stateDir,
    stateFile: join(stateDir, 'state.json'),
    upperDir: join(stateDir, 'upper'),
    workDir: join(stateDir, 'work'),
  };
}

/** Throws `invalid_argument` for an id that is no plain file name or makes the agent's socket path too long for the kernel. */
export function vesselLayoutOf(installation: Installation, vesselId: string): VesselLayout {
  checkId(vesselId);
  const runDir = join(installation.runDir, vesselId);
  const socketPath = join(runDir, 'agent.sock');
  if (Buffer.byteLength(socketPath) > maxSocketPathBytes) {
    throw new AppError(
      'invalid_argument',
      `${socketPath} is longer than the ${maxSocketPathBytes} bytes a socket path may have; choose a shorter run directory`,
    );
  }
  return {
    vesselId,
    runDir,
    bundleDir: join(runDir, 'bundle'),
    runtimeDir: join(runDir, 'runtime'),
    socketPath,
    pidFile: join(runDir, 'pid'),
    cgroupPath: `${installation.cgroupPath}/${vesselId}`,
  };
}

/** An id for a vessel; all are as long. */
export function newVesselId(): string {
  return `v${randomBytes(8).toString('hex')}`;
}

function checkId(id: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(id)) return;
  throw new AppError('invalid_argument', `${JSON.stringify(id)} cannot be the id of a capsule`);
}
