import { closeSync, fsyncSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import type { MemoryTask } from './microvm-memory.ts';

/** The body of a thread that moves a machine's memory between QEMU and two files; see `MemoryTask`. */
const pageBytes = 4_096;
const chunkPages = 256;
const entryBytes = 8;
const runBytes = 12;
const zeros = Buffer.alloc(pageBytes);

const task: MemoryTask = workerData;
parentPort?.postMessage(task.direction === 'save' ? save(task) : load(task));

function save({ pid, address, ramBytes, pagesPath, runsPath }: MemoryTask): number {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const pages = openSync(pagesPath, 'wx', 0o600);
  const runs = openSync(runsPath, 'wx', 0o600);
  const entries = readMap(pid, address, ramBytes);
  const found: number[] = [];
  const chunk = Buffer.allocUnsafe(chunkPages * pageBytes);
  let writtenBytes = 0;
  for (let page = 0; page < ramBytes / pageBytes; ) {
    const count = countOwn(entries, page);
    if (count === 0) {
      page++;
      continue;
    }
    readFully(memory, chunk.subarray(0, count * pageBytes), address + page * pageBytes);
    for (let at = 0; at < count; ) {
      const end = endOfKind(chunk, at, count);
      const isData = !isZero(chunk, at);
      noteRun(found, page + at, end - at, isData);
      if (isData) writtenBytes += writeFully(pages, chunk.subarray(at * pageBytes, end * pageBytes), writtenBytes);
      at = end;
    }
    page += count;
  }
  writeFully(runs, Buffer.from(Uint32Array.from(found).buffer), 0);
  for (const file of [pages, runs]) fsyncSync(file);
  for (const file of [memory, pages, runs]) closeSync(file);
  return writtenBytes;
}

function load({ pid, address, ramBytes, pagesPath, runsPath }: MemoryTask): number {
  const memory = openSync(`/proc/${pid}/mem`, 'r+');
  const pages = openSync(pagesPath, 'r');
  const runs = readFileSync(runsPath);
  const chunk = Buffer.allocUnsafe(chunkPages * pageBytes);
  let readBytes = 0;
  for (let at = 0; at + runBytes <= runs.length; at += runBytes) {
    const [first, count, isData] = [runs.readUInt32LE(at), runs.readUInt32LE(at + 4), runs.readUInt32LE(at + 8) === 1];
    if ((first + count) * pageBytes > ramBytes) throw new Error('pages beyond the end of memory');
    if (!isData) chunk.fill(0);
    for (let done = 0; done < count; done += chunkPages) {
      const part = chunk.subarray(0, Math.min(chunkPages, count - done) * pageBytes);
      if (isData) {
        readFully(pages, part, readBytes);
        readBytes += part.length;
      }
      writeFully(memory, part, address + (first + done) * pageBytes);
    }
  }
  for (const file of [memory, pages]) closeSync(file);
  return readBytes;
}

/** One number of 64 bits for each page of the mapping, as the kernel describes it. */
function readMap(pid: number, address: number, ramBytes: number): Buffer {
  const map = openSync(`/proc/${pid}/pagemap`, 'r');
  const entries = Buffer.allocUnsafe((ramBytes / pageBytes) * entryBytes);
  readFully(map, entries, (address / pageBytes) * entryBytes);
  closeSync(map);
  return entries;
}

/** Whether the machine has this page for itself: present but not the file's (bits 63 and 61), or swapped out (bit 62). */
function isOwn(entries: Buffer, page: number): boolean {
  const top = entries[page * entryBytes + 7] ?? 0;
  return (top & 0x40) !== 0 || ((top & 0x80) !== 0 && (top & 0x20) === 0);
}

function countOwn(entries: Buffer, page: number): number {
  let count = 0;
  while (count < chunkPages && (page + count) * entryBytes < entries.length && isOwn(entries, page + count)) count++;
  return count;
}

function isZero(chunk: Buffer, page: number): boolean {
  return zeros.compare(chunk, page * pageBytes, (page + 1) * pageBytes) === 0;
}

function endOfKind(chunk: Buffer, from: number, count: number): number {
  let end = from + 1;
  while (end < count && isZero(chunk, end) === isZero(chunk, from)) end++;
  return end;
}

/** A run that goes on where the last one of its kind ended is that one. */
function noteRun(found: number[], first: number, count: number, isData: boolean): void {
  const last = found.length - 3;
  const [lastFirst = 0, lastCount = 0, lastKind] = found.slice(last);
  if (last >= 0 && lastFirst + lastCount === first && lastKind === Number(isData)) found[last + 1] = lastCount + count;
  else found.push(first, count, Number(isData));
}

// Positions are numbers: with anything else they are silently taken for 0.
function readFully(file: number, into: Buffer, position: number): void {
  for (let done = 0; done < into.length; ) {
    const got = readSync(file, into, done, into.length - done, position + done);
    if (got === 0) throw new Error('the file ends early');
    done += got;
  }
}

function writeFully(file: number, bytes: Buffer, position: number): number {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, position + done);
  return bytes.length;
}
