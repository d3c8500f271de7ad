import { AppError } from '@caisson/contracts/app-error';
import { expectBytes, protocolError, readEntries } from './guest-answers.ts';
import { checkPath } from './guest-exec.ts';
import { agentFrame, type GuestFrame, guestLimits, hostFrame } from './guest-frames.ts';
import { createGuestInflow } from './guest-inflow.ts';
import type { GuestFileStat, GuestLink } from './guest-link.ts';
import { createCreditedQueue, windowUnits } from './guest-output.ts';
import { uint32 } from './guest-process.ts';
import type { GuestRequests, OpenRequest } from './guest-requests.ts';

/** The calls of a link that concern files. */
type GuestFiles = Pick<GuestLink, 'writeFile' | 'readFile' | 'stat' | 'list' | 'mkdir' | 'remove'>;

const modeUnset = 0xffff_ffff;
const flagParents = 1;
const flagRecursive = 1;
/** A directory with more is not listed: the answer is held in memory as a whole. */
const entriesMax = 100_000;

/** File calls over the requests of a connection. */
export function createGuestFiles(requests: GuestRequests): GuestFiles {
  return {
    writeFile: (path, bytes, options) => writeFile(requests, { path, mode: options?.mode }, bytes),
    readFile: (path) => readFile(requests, path),
    async stat(path) {
      const [entry, ...rest] = await collectEntries(requests, { type: hostFrame.stat, payload: pathPayload(path, 0) });
      if (entry === undefined || rest.length > 0) throw protocolError('a stat of not one file');
      return entry;
    },
    list: (path) => collectEntries(requests, { type: hostFrame.list, payload: pathPayload(path, windowUnits) }),
    async mkdir(path, options) {
      const payload = pathPayload(path, options?.mode === undefined ? 0o755 : checkMode(options.mode));
      await simple(requests, { type: hostFrame.mkdir, flags: options?.parents === true ? flagParents : 0, payload });
    },
    async remove(path, options) {
      const flags = options?.recursive === true ? flagRecursive : 0;
      await simple(requests, { type: hostFrame.remove, flags, payload: pathPayload(path, 0) });
    },
  };
}

function pathPayload(path: string, argument: number): Buffer {
  return Buffer.concat([uint32(argument), Buffer.from(checkPath(path), 'utf8')]);
}

function checkMode(mode: number): number {
  if (Number.isInteger(mode) && mode >= 0 && mode <= 0o7777) return mode;
  throw new AppError('invalid_argument', `${mode} is not a file mode.`);
}

function unexpected(frame: GuestFrame): never {
  throw protocolError(`frame ${frame.type} where none belongs`);
}

async function simple(
  requests: GuestRequests,
  request: { type: number; flags: number; payload: Buffer },
): Promise<void> {
  const open = await requests.open(request, { frame: unexpected });
  await open.outcome;
}

async function collectEntries(
  requests: GuestRequests,
  request: { type: number; payload: Buffer },
): Promise<readonly GuestFileStat[]> {
  const entries: GuestFileStat[] = [];
  const open: OpenRequest = await requests.open(request, {
    frame(frame) {
      if (frame.type !== agentFrame.entries || frame.payload.length > guestLimits.dataChunkBytes) unexpected(frame);
      for (const entry of readEntries(frame)) entries.push(entry);
      if (entries.length > entriesMax) open.cancel();
      else requests.send({ type: hostFrame.requestCredit, id: frame.id, payload: frameCredit(frame) });
    },
  });
  await open.outcome.catch((error: unknown) => {
    if (entries.length > entriesMax) {
      throw new AppError('limit_exceeded', `The directory has more than ${entriesMax} entries.`);
    }
    throw error;
  });
  return entries;
}

function frameCredit(frame: GuestFrame): Buffer {
  return uint32(frame.payload.length + guestLimits.frameCost);
}

async function* readFile(requests: GuestRequests, path: string): AsyncGenerator<Uint8Array, void, undefined> {
  let id = 0;
  const queue = createCreditedQueue<Uint8Array>((units) =>
    requests.send({ type: hostFrame.requestCredit, id, payload: uint32(units) }),
  );
  const request = { type: hostFrame.read, payload: pathPayload(path, windowUnits) };
  const open = await requests.open(request, {
    frame(frame) {
      if (frame.type !== agentFrame.data || frame.payload.length === 0) unexpected(frame);
      queue.push(frame.payload, frame.payload.length);
    },
  });
  id = open.id;
  open.outcome.then(
    () => queue.end(),
    (error: AppError) => queue.end(error),
  );
  try {
    yield* queue.items();
  } finally {
    open.cancel();
  }
}

async function writeFile(
  requests: GuestRequests,
  target: { path: string; mode: number | undefined },
  bytes: AsyncIterable<Uint8Array>,
): Promise<void> {
  const argument = target.mode === undefined ? modeUnset : checkMode(target.mode);
  const inflow = createGuestInflow(guestLimits.inboundBytes, (piece) =>
    requests.send({ type: hostFrame.data, id: open.id, payload: piece }),
  );
  const open: OpenRequest = await requests.open(
    { type: hostFrame.write, payload: pathPayload(target.path, argument) },
    {
      frame(frame) {
        if (frame.type !== agentFrame.writeCredit) unexpected(frame);
        expectBytes(frame, 4);
        inflow.grant(frame.payload.readUInt32LE(0));
      },
    },
  );
  open.outcome.catch((error: AppError) => inflow.stop(error));
  try {
    for await (const piece of bytes) await inflow.write(piece);
  } catch (error) {
    open.cancel();
    await open.outcome.catch(() => undefined); // the agent lets go of the temporary file
    throw error;
  }
  requests.send({ type: hostFrame.end, id: open.id });
  await open.outcome;
}
