import { closeSync, constants, openSync, writeSync } from 'node:fs';

/**
 * Keeps standard output for the answer: what a pipeline file prints, by whatever means, goes to standard error. Answers the
 * descriptor to write the answer to.
 */
export function reserveStdout(): number {
  Object.defineProperty(process, 'stdout', { value: process.stderr });
  return moveStdout() ?? 1;
}

/**
 * Node cannot duplicate a descriptor, but a closed one is the next to be given out: so 1 becomes another name for 2, for child
 * processes too. Not possible where standard output is a socket or belongs to somebody else; then only `process.stdout` is moved.
 * Where standard error is a plain file, what comes in this way may be overwritten: it is noise, the answer is not.
 */
function moveStdout(): number | undefined {
  const flags = constants.O_WRONLY | constants.O_APPEND;
  const opened: number[] = [];
  try {
    opened.push(openSync('/proc/self/fd/1', flags), openSync('/proc/self/fd/2', flags));
    closeSync(1);
    closeSync(opened[1] ?? -1);
    openSync('/proc/self/fd/2', flags);
    return opened[0];
  } catch {
    for (const descriptor of opened) closeSync(descriptor);
    return undefined;
  }
}

/** Writes all of it before it returns, also into a full pipe that somebody made non-blocking. */
export function writeAll(descriptor: number, text: string): void {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(descriptor, rest));
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
