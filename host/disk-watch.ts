import { statfs } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '@caisson/contracts/app-error';
import { type DiskUse, measureDisk } from './disk-use.ts';
import type { WritableDisk } from './machine-driver.ts';
import { steadyMs } from './steady-clock.ts';

/**
 * Limits what running capsules write. Plain ext4 has no quota for a directory, so each writable layer is measured: free space and free
 * files of the file system are read every `intervalMs`, and the layer itself is counted only when so much is gone that it may be over
 * its limit, or when it was not counted for a while. A capsule may be over its limit for about that long.
 */
export interface DiskWatch {
  /** Begins to watch; the caller ends it with `stop`. One file may be kept for every 4 KiB of `limitBytes`. */
  watch(disk: WritableDisk, limitBytes: number): Promise<WatchedDisk>;
}

export interface WatchedDisk {
  /** Resolves with `disk_full` when this capsule has to end: it is over its limit, or the largest when the host runs out of space. */
  readonly full: Promise<AppError>;
  /** What `full` resolved with; null before. */
  readonly verdict: AppError | null;
  /** Looks once more, cheaply as long as the file system has lost less than the limit; throws `disk_full`. */
  check(): Promise<void>;
  stop(): void;
}

export interface DiskWatchOptions {
  /** Default 2000. */
  readonly intervalMs?: number;
  /** Free space the host keeps for itself, default 2 GiB but at most a fiftieth of the file system. */
  readonly reserveBytes?: number;
}

interface Watched {
  readonly disk: WritableDisk;
  readonly limit: DiskUse;
  readonly full: PromiseWithResolvers<AppError>;
  used: DiskUse;
  /** What was free when `used` was measured. */
  freeThen: FreeSpace;
  measuredAtMs: number;
  /** How long that took: counting never takes more than a tenth of the time. */
  measureMs: number;
  /** The count under way; there is never a second one. */
  measuring: Promise<void> | null;
  verdict: AppError | null;
}

interface FreeSpace extends DiskUse {
  readonly sizeBytes: number;
}

const bytesPerEntry = 4096;
/** What others remove meanwhile hides what a capsule writes, until it is counted for want of a count. */
const slowestMs = 10_000;
const measureTimeoutMs = 120_000;
/** How long is waited for the counts when the host runs out; one that takes longer is charged with all that is gone. */
const hurriedMs = 5_000;
const reserve = { bytes: 2 * 2 ** 30, share: 1 / 50 };
/** The end of one who holds less brings nothing back: something else fills the disk, and the jobs wait for room. */
const leastHelpBytes = 2 ** 20;

export function createDiskWatch(options: DiskWatchOptions = {}): DiskWatch {
  const all = new Set<Watched>();
  let timer: NodeJS.Timeout | null = null;
  let isKeeping = false;
  const keepReserveOnce = async () => {
    if (isKeeping) return;
    isKeeping = true;
    await keepReserve([...all], options.reserveBytes).catch(() => {});
    isKeeping = false;
  };
  // A tree that takes long to count keeps nobody waiting but its own watch; what fails is tried again at the next look.
  const lookAtAll = () => {
    for (const watched of all) void look(watched).catch(() => {});
    void keepReserveOnce();
    timer = null;
    schedule();
  };
  const schedule = () => {
    if (timer !== null || all.size === 0) return;
    timer = setTimeout(lookAtAll, options.intervalMs ?? 2_000);
    timer.unref();
  };
  return {
    async watch(disk, limitBytes) {
      const watched = await begin(disk, limitBytes);
      all.add(watched);
      schedule();
      return {
        full: watched.full.promise,
        get verdict() {
          return watched.verdict;
        },
        check: () => checkNow(watched),
        stop: () => {
          all.delete(watched);
        },
      };
    },
  };
}

async function begin(disk: WritableDisk, limitBytes: number): Promise<Watched> {
  return {
    disk,
    limit: { bytes: limitBytes, entries: Math.ceil(limitBytes / bytesPerEntry) },
    full: Promise.withResolvers<AppError>(),
    verdict: null,
    used: { bytes: 0, entries: 0 },
    freeThen: await freeSpace(disk),
    // Never: one that was taken up from an earlier process may hold a lot already.
    measuredAtMs: Number.NEGATIVE_INFINITY,
    measureMs: 0,
    measuring: null,
  };
}

async function freeSpace({ directory }: WritableDisk): Promise<FreeSpace> {
  const { bavail, bsize, blocks, ffree } = await statfs(directory);
  return { bytes: bavail * bsize, entries: ffree, sizeBytes: blocks * bsize };
}

/** The most the layer can hold by now, if all that is gone from the file system went into it. */
function mostUse({ used, freeThen }: Watched, free: FreeSpace): DiskUse {
  return {
    bytes: used.bytes + Math.max(0, freeThen.bytes - free.bytes),
    entries: used.entries + Math.max(0, freeThen.entries - free.entries),
  };
}

function isOver(use: DiskUse, limit: DiskUse): boolean {
  return use.bytes > limit.bytes || use.entries > limit.entries;
}

async function look(watched: Watched): Promise<void> {
  const sinceMs = steadyMs() - watched.measuredAtMs;
  if (watched.verdict || watched.measuring || sinceMs < watched.measureMs * 10) return;
  const most = mostUse(watched, await freeSpace(watched.disk));
  if (isOver(most, watched.limit) || sinceMs > slowestMs) await measure(watched);
  if (isOver(watched.used, watched.limit)) end(watched, overLimit(watched));
}

async function checkNow(watched: Watched): Promise<void> {
  if (isOver(mostUse(watched, await freeSpace(watched.disk)), watched.limit)) await measure(watched);
  if (isOver(watched.used, watched.limit)) throw overLimit(watched);
}

function measure(watched: Watched): Promise<void> {
  watched.measuring ??= count(watched).finally(() => {
    watched.measuring = null;
  });
  return watched.measuring;
}

/** A tree that cannot be counted in time is charged with all that is gone since. */
async function count(watched: Watched): Promise<void> {
  const startedAtMs = steadyMs();
  const free = await freeSpace(watched.disk);
  watched.used = (await measureDisk(watched.disk, measureTimeoutMs)) ?? mostUse(watched, free);
  watched.freeThen = free;
  watched.measuredAtMs = steadyMs();
  watched.measureMs = watched.measuredAtMs - startedAtMs;
}

/**
 * One at a time, the largest first, and the next only when the space of the one before has come back. Unless next to nothing is left,
 * nobody is ended who holds too little to help.
 */
async function keepReserve(all: readonly Watched[], reserveBytes: number | undefined): Promise<void> {
  const [first] = all;
  if (first === undefined || all.some(({ verdict }) => verdict)) return;
  const free = await freeSpace(first.disk);
  const wanted = reserveBytes ?? Math.min(reserve.bytes, free.sizeBytes * reserve.share);
  if (free.bytes >= wanted) return;
  await Promise.race([Promise.all(all.map(measure)), delay(hurriedMs, null, { ref: false })]);
  const uses = all.map((watched) => ({
    watched,
    bytes: watched.measuring ? mostUse(watched, free).bytes : watched.used.bytes,
  }));
  const largest = uses.reduce((a, b) => (b.bytes > a.bytes ? b : a));
  if (largest.bytes < leastHelpBytes || (largest.bytes < wanted / 8 && free.bytes > wanted / 4)) return;
  const message = `the host has only ${mebibytes(free.bytes)} of disk left, and this job had written ${mebibytes(largest.bytes)}, the most of all`;
  end(largest.watched, new AppError('disk_full', message));
}

function end(watched: Watched, error: AppError): void {
  watched.verdict = error;
  watched.full.resolve(error);
}

function overLimit({ used, limit }: Watched): AppError {
  const what =
    used.bytes > limit.bytes
      ? `${mebibytes(used.bytes)} of the ${mebibytes(limit.bytes)} of disk its capsule has`
      : `${used.entries} files where its capsule may have ${limit.entries}`;
  return new AppError('disk_full', `the job wrote ${what}`);
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
