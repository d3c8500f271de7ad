import type { Http2Session } from 'node:http2';

const askEveryMs = 1_000;
const silentTurns = 7;

/**
 * Calls `end` when the other side of a session says nothing for seven seconds, not even to pings, a connection that is not made by
 * then included: a cut cable says nothing either, and a fresh connection is through sooner than what the old one sends again. Turns
 * are counted, not time, so that a process that stood still itself hears first. `socket` is the session's own.
 */
export function watchForSilence(
  session: Http2Session,
  socket: { readonly bytesRead: number },
  end: (error: Error) => void,
): void {
  let heardBytes = 0;
  let silent = 0;
  const timer = setInterval(() => {
    if (session.destroyed) return clearInterval(timer);
    silent = socket.bytesRead === heardBytes ? silent + 1 : 0;
    heardBytes = socket.bytesRead;
    if (silent >= silentTurns) end(new Error('the other side fell silent'));
    else if (!session.connecting && !session.closed) session.ping(() => {});
  }, askEveryMs);
  timer.unref();
}
