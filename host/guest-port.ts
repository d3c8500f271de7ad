import { once } from 'node:events';
import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { AppError } from '@caisson/contracts/app-error';
import { agentFrame } from './guest-frames.ts';
import { type GuestPipes, openGuestPipes } from './guest-pipes.ts';

/** Completes or pads away whatever an earlier host had begun to send: one whole frame. */
const paddingBytes = 65_548;
/** What an agent's greeting begins with: type, flags, zeroes, id and the length of its payload. */
const greetingStart = Buffer.from([agentFrame.hello, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0]);
/** What may come before the greeting: the rest of what the agent was sending to an earlier host. */
const skippedBytesMax = 1_048_576;

/**
 * Opens a port, a byte stream that outlives its users, by its socket or its pipes: sends padding and `hello`, and drops what was meant
 * for an earlier user. The stream comes back paused, with the agent's greeting as its first bytes. Rejects with `guest_lost` when
 * `signal` aborts before that.
 */
export async function openGuestPort(port: string | GuestPipes, hello: Buffer, signal: AbortSignal): Promise<Duplex> {
  let stream: Duplex | null = null;
  try {
    stream = typeof port === 'string' ? createConnection(port) : await openGuestPipes(port);
    // Its end is told by `close` as well, whoever listens by then.
    stream.on('error', () => {});
    if (typeof port === 'string') await once(stream, 'connect', { signal });
    stream.write(Buffer.concat([Buffer.alloc(paddingBytes), hello]));
    stream.unshift(await readToGreeting(stream, signal));
    return stream;
  } catch (cause) {
    stream?.destroy();
    throw new AppError('guest_lost', 'The agent did not greet over its port.', { cause });
  }
}

/** Everything from the greeting on, as far as it came. */
function readToGreeting(stream: Duplex, signal: AbortSignal): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  let seen = Buffer.alloc(0);
  let skippedBytes = 0;
  const onData = (chunk: Buffer) => {
    seen = Buffer.concat([seen, chunk]);
    const at = seen.indexOf(greetingStart);
    if (at >= 0) return resolve(seen.subarray(at));
    const passedBytes = Math.max(0, seen.length - greetingStart.length + 1);
    skippedBytes += passedBytes;
    seen = seen.subarray(passedBytes);
    if (skippedBytes > skippedBytesMax) reject(new Error('no greeting came'));
  };
  const onClose = () => reject(new Error('the port was closed'));
  const onAbort = () => reject(signal.reason);
  stream.on('data', onData);
  stream.once('close', onClose);
  signal.addEventListener('abort', onAbort, { once: true });
  return promise.finally(() => {
    stream.pause();
    stream.off('data', onData);
    stream.off('close', onClose);
    signal.removeEventListener('abort', onAbort);
  });
}
