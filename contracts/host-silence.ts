import type { Http2Session } from 'node:http2';

const askEveryMs = 2_000;
const silentTurns = 3;

/**
 * Ends a session whose other side says nothing for six seconds, not even to pings, a connection that is not made by then included: a
 * cut cable says nothing either, and a fresh connection is through sooner than what the old one sends again. Turns are counted, not
 * time, so that a process that stood still itself hears first.
 */
export function endWhenSilent(session: Http2Session): void {
  let heardBytes = 0;
  let silent = 0;
  const timer = setInterval(() => {
    const { bytesRead } = session.socket;
    silent = bytesRead === heardBytes ? silent + 1 : 0;
    heardBytes = bytesRead;
    if (silent >= silentTurns) session.destroy(new Error('the other side fell silent'));
    else if (!session.connecting && !session.closed) session.ping(() => {});
  }, askEveryMs);
  timer.unref();
  session.once('close', () => clearInterval(timer));
}
