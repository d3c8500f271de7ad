import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, messageOf } from '@caisson/contracts/app-error';
import type { DiskMount } from './container-disk.ts';
import type { VesselLayout } from './container-layout.ts';
import type { GuestPipes } from './guest-pipes.ts';
import { idMap } from './id-map.ts';
import type { RunBriefly } from './resident-programs.ts';
import { ProgramError } from './run-program.ts';

/** One way to run gVisor. */
export interface GvisorRuntime {
  readonly path: string;
  readonly platform: 'systrap' | 'ptrace';
  /** As shown to people: `runsc 0.0~20240729.0 (systrap)`. */
  readonly label: string;
}

/** The program with all that has to be the same whenever it is called for a vessel. */
export function runscArgv(
  { path, platform }: GvisorRuntime,
  { runtimeDir }: VesselLayout,
  hasNetwork: boolean,
): readonly string[] {
  return [
    ...[path, '--root', runtimeDir, `--platform=${platform}`, `--network=${hasNetwork ? 'sandbox' : 'none'}`],
    // What is written goes to the disk at once, so that it can be kept. Nobody else writes to what is shown, /tmp above all.
    ...['--overlay2=none', '--file-access-mounts=exclusive'],
    // The limits are ours.
    ...['--ignore-cgroups', '--oci-seccomp'],
    // Connections to others end where memory is kept; without this it could not be kept.
    '--net-disconnect-ok',
  ];
}

/** Calls the program for a vessel that runs. */
export type Runsc = (words: readonly string[]) => Promise<unknown>;

const callTimeoutMs = 600_000;

/** The way to call `runsc` for a vessel; throws `provision_failed` with what matters of its own words. */
export function runscFor(
  { runtime, run }: { readonly runtime: GvisorRuntime; readonly run: RunBriefly },
  vessel: VesselLayout,
  hasNetwork: boolean,
): Runsc {
  const argv = runscArgv(runtime, vessel, hasNetwork);
  return (words) =>
    run([...argv, ...words], { timeoutMs: callTimeoutMs }).catch((cause: unknown) => {
      const said = cause instanceof ProgramError ? cause.stderr : messageOf(cause);
      throw new AppError('provision_failed', `runsc: ${reasonIn(said)}`, { cause });
    });
}

/** What it says goes on with the stack of every thread. */
function reasonIn(said: string): string {
  const removed = /gofer\.dentry\("([^"]*)"\)\.beforeSave: deleted/.exec(said)?.[1];
  if (removed === undefined) return said.trim().split('\n')[0] ?? '';
  return `a program has the file /${removed} open, which was removed, and gVisor cannot keep such a file`;
}

/** Where a capsule finds what the host makes for it, all below the vessel's run directory. */
export function placesIn({ runDir }: VesselLayout) {
  const pipes: GuestPipes = { toGuest: join(runDir, 'to-guest'), fromGuest: join(runDir, 'from-guest') };
  return {
    pipes,
    rootDir: join(runDir, 'root'),
    tmpDir: join(runDir, 'tmp'),
    agentPath: join(runDir, 'agent'),
    resolvConfPath: join(runDir, 'resolv.conf'),
    /** Of the directory of the host that is shown as the nth. */
    shownDir: (index: number) => join(runDir, `shown-${index}`),
    errorPath: join(runDir, 'errors'),
  };
}

interface Launch {
  readonly layout: VesselLayout;
  readonly disk: DiskMount;
  /** Files and directories of the host, and where below the run directory they are to appear. */
  readonly shown: readonly { readonly from: string; readonly at: string }[];
  /** Files of control groups to join. */
  readonly groupFiles: readonly string[];
  /** Path of the network namespace to run in; null for one with nothing but loopback. */
  readonly namespacePath: string | null;
  /** `runsc` with what it is to do. */
  readonly argv: readonly string[];
  readonly timeoutMs: number;
}

/** Starts a gVisor on its disk and returns once it runs. Throws `provision_failed` with its own words. */
export async function launchGvisor(run: RunBriefly, launch: Launch): Promise<void> {
  const { layout, disk, namespacePath, timeoutMs } = launch;
  const enter = namespacePath === null ? [] : ['nsenter', `--net=${namespacePath}`];
  const words = [disk.options, layout.runDir, String(idMap.baseId), namespacePath === null ? '' : 'network'];
  const shown = launch.shown.flatMap(({ from, at }) => [from, at]);
  const lists = [...shown, '--', ...launch.groupFiles, '--', ...launch.argv];
  const argv = [...enter, 'unshare', '--mount', '/bin/sh', '-ec', script, 'sh', ...words, ...lists];
  await run(argv, { cwd: disk.cwd, timeoutMs }).catch(async (cause: unknown) => {
    const said = await readFile(placesIn(layout).errorPath, 'utf8').catch(() => '');
    throw new AppError('provision_failed', `runsc: ${reasonIn(said || messageOf(cause))}`, { cause });
  });
}

/**
 * Runs in a mount namespace of its own, of which gVisor gets copies: the disk is mounted nowhere else, and goes with the last process;
 * so is what is shown, since the capsule's root is nobody out here, who could not get to where that is. The host's kernel keeps
 * that from being written to: gVisor refuses to open such a file for writing, and has then cut it off already.
 *
 * gVisor puts a file system of its own over an empty /tmp, which would not be kept, unless something is mounted there. A link could
 * lead anywhere out here; what is behind it then is not kept.
 *
 * From kernel 6.8 on every network namespace has the file by which the runsc of 2024 knows the host's own, where it refuses to work.
 *
 * The pipes are open on both sides for as long as the capsule lives, so that no host is the last. runsc's errors go to a file because
 * the capsule's init has that descriptor as well, and whoever waits for the end of a stream would wait for both.
 */
const script = `
  options=$1 run=$2 owner=$3 network=$4
  shift 4
  while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir "$2"; else : > "$2"; fi
    mount -n -o bind,ro,nosuid,nodev "$1" "$2"
    shift 2
  done
  shift
  while [ "$1" != -- ]; do
    echo 0 > "$1"
    shift
  done
  shift
  mount -n -o bind,ro,nosuid,nodev,noexec "$run/bundle" "$run/bundle"
  LIBMOUNT_FORCE_MOUNT2=always mount -n -t overlay -o "nosuid,nodev,$options" overlay "$run/root"
  own() { mkdir -m 1777 "$1"; chown "$owner:$owner" "$1"; }
  own "$run/tmp"
  if [ ! -L "$run/root/tmp" ]; then
    [ -e "$run/root/tmp" ] || own "$run/root/tmp"
    mount -n --bind "$run/root/tmp" "$run/tmp"
  fi
  [ -z "$network" ] || mount -n -t tmpfs -o ro,size=4k tmpfs /proc/sys/net/core
  mkfifo -m 600 "$run/to-guest" "$run/from-guest"
  exec "$@" 0<>"$run/to-guest" 1<>"$run/from-guest" 2>"$run/errors"`;
