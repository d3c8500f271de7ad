import { constants, open } from 'node:fs';
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { promisify } from 'node:util';

/** Two named pipes that are the port of an agent: a byte stream with a half for each direction, which outlives its users. */
export interface GuestPipes {
  readonly toGuest: string;
  readonly fromGuest: string;
}

const openDescriptor = promisify(open);

/** Opens this side of both. The stream ends when nobody holds the other side any more; where nobody does yet, it fails with `ENXIO`. */
export async function openGuestPipes({ toGuest, fromGuest }: GuestPipes): Promise<Duplex> {
  const { O_WRONLY, O_RDONLY, O_NONBLOCK } = constants;
  // As sockets they are waited for by the event loop; as files each read would keep a thread.
  const writable = new Socket({
    fd: await openDescriptor(toGuest, O_WRONLY | O_NONBLOCK),
    readable: false,
    writable: true,
  });
  const readable = new Socket({ fd: await openDescriptor(fromGuest, O_RDONLY | O_NONBLOCK), writable: false });
  const duplex = Duplex.from({ readable, writable });
  for (const half of [readable, writable]) half.once('close', () => duplex.destroy());
  return duplex;
}
