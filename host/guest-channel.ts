import { createConnection } from 'node:net';
import { AppError } from '@caisson/contracts/app-error';
import { protocolError, readError } from './guest-answers.ts';
import { createGuestFiles } from './guest-files.ts';
import { agentFrame, encodeFrame, type GuestFrame, hostFrame } from './guest-frames.ts';
import { encodeIdentity } from './guest-identity.ts';
import type { GuestLink } from './guest-link.ts';
import type { GuestPipes } from './guest-pipes.ts';
import { openGuestPort } from './guest-port.ts';
import { createGuestProcesses } from './guest-processes.ts';
import { createGuestRequests } from './guest-requests.ts';
import { type OpenGuestWire, openGuestWire } from './guest-wire.ts';

interface GuestChannelOptions {
  /** How long the agent may take to greet; default 10 000. A frozen capsule does not greet. */
  readonly greetingTimeoutMs?: number;
  /** The socket is the host's end of a port inside a machine, which does not notice when its user is replaced. Default: pipes are one. */
  readonly isPort?: boolean;
  /** Ends the waiting early, e.g. because the machine is dead. */
  readonly signal?: AbortSignal;
}

const magic = Buffer.from('CAISSON\0', 'latin1');
const protocolVersion = 1;
/** Requests under way at most, whatever the agent would allow. */
const openRequestsMax = 16;

/**
 * Connects to the agent behind a unix socket or a pair of pipes and waits for its greeting. Rejects with `guest_lost` when there is no
 * agent or it does not greet in time, with `guest_protocol` when it greets wrongly. A connection takes the place of any earlier one.
 */
export async function connectGuest(place: string | GuestPipes, options: GuestChannelOptions = {}): Promise<GuestLink> {
  const timeoutMs = options.greetingTimeoutMs ?? 10_000;
  const limit = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(options.signal ? [options.signal] : [])]);
  const hello = { type: hostFrame.hello, id: 0, payload: greetingPayload() };
  const isPort = options.isPort || typeof place !== 'string';
  const socket = isPort ? await openGuestPort(place, encodeFrame(hello), limit) : createConnection(place);
  const greeting = Promise.withResolvers<void>();
  let greeted = false;
  const wire: OpenGuestWire = openGuestWire(socket, {
    onFrame(frame) {
      if (greeted) return link.frame(frame);
      checkGreeting(frame);
      greeted = true;
      greeting.resolve();
    },
    onEnd(error) {
      greeting.reject(error);
      link.lost(error);
    },
  });
  const link = createLink(wire);
  if (isPort) socket.resume();
  else wire.send(hello);
  const onLimit = () => wire.close('The agent did not greet in time.');
  limit.addEventListener('abort', onLimit, { once: true });
  try {
    await greeting.promise;
  } finally {
    limit.removeEventListener('abort', onLimit);
  }
  return link.guest;
}

function greetingPayload(): Buffer {
  const versions = Buffer.alloc(4);
  versions.writeUInt16LE(protocolVersion, 0);
  versions.writeUInt16LE(protocolVersion, 2);
  return Buffer.concat([magic, versions]);
}

function checkGreeting(frame: GuestFrame): void {
  if (frame.type !== agentFrame.hello || frame.payload.length !== 48 || !frame.payload.subarray(0, 8).equals(magic)) {
    throw protocolError('it does not greet');
  }
  const version = frame.payload.readUInt16LE(8);
  if (version !== protocolVersion) throw protocolError(`it speaks version ${version}`);
}

interface Link {
  readonly guest: GuestLink;
  frame(frame: GuestFrame): void;
  lost(error: AppError): void;
}

function createLink(wire: OpenGuestWire): Link {
  const processes = createGuestProcesses(wire);
  const requests = createGuestRequests(wire, { openMax: openRequestsMax, readError });
  return {
    guest: {
      closed: wire.closed,
      exec: async (spec) => aliveOnly(wire, () => processes.exec(spec)),
      attach: async (processId, fromOffset) => aliveOnly(wire, () => processes.attach(processId, fromOffset)),
      ...createGuestFiles(requests),
      async identify(words) {
        const payload = encodeIdentity(words, Date.now());
        await (await requests.open({ type: hostFrame.identity, payload }, oneAnswer)).outcome;
      },
      async ping() {
        const startedAt = performance.now();
        await (await requests.open({ type: hostFrame.ping, payload: Buffer.alloc(0) }, oneAnswer)).outcome;
        return performance.now() - startedAt;
      },
      close: () => wire.close('The connection was closed.'),
    },
    frame(frame) {
      if (!processes.frame(frame) && !requests.frame(frame)) throw protocolError(`unknown frame ${frame.type}`);
    },
    lost(error) {
      processes.lost(error);
      requests.lost(error);
    },
  };
}

const oneAnswer = {
  frame() {
    throw protocolError('more than one frame for an answer');
  },
};

function aliveOnly<Result>(wire: OpenGuestWire, call: () => Promise<Result>): Promise<Result> {
  if (wire.isClosed()) throw new AppError('guest_lost', 'The connection to the agent is closed.');
  return call();
}
