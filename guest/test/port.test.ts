import { expect, test } from 'vitest';
import { buildAgent } from '../../host/guest-binary.ts';
import { agentFrame, createFrameReader, encodeFrame, type GuestFrame, hostFrame } from '../../host/guest-frames.ts';
import { readUntil, shell } from './agent-fixture.ts';
import { describeAgents } from './agent-variants.ts';

const hello = encodeFrame({ type: hostFrame.hello, id: 0, payload: Buffer.from('CAISSON\0\x01\0\x01\0', 'latin1') });
const ping = (id: number): Buffer => encodeFrame({ type: hostFrame.ping, id });
/** More zeros than the longest frame has bytes: whatever frame was begun is over, the rest is padding. */
const padding = Buffer.alloc(65_536 + 12);

describeAgents('an agent on a port that never ends', (agent, variant) => {
  test('finds a greeting after noise and takes a new one in the middle of a frame', async () => {
    const link = await agent().connect();
    const program = await buildAgent({ variant });
    // A raw terminal is such a port: it stays open whoever talks over it.
    const line = `stty raw -echo; echo ready; exec ${program} serve /dev/tty`;
    const process = await link.exec(shell(line, { pty: { rows: 24, cols: 80 } }));
    const output = process.output();
    await readUntil(output, 'ready\n');
    const frames: GuestFrame[] = [];
    const read = createFrameReader((frame) => frames.push(frame));
    const iterator = output[Symbol.asyncIterator]();
    const next = async (): Promise<GuestFrame | undefined> => {
      while (frames.length === 0) {
        const { value } = await iterator.next();
        if (value === undefined) break;
        process.acknowledge(value.endOffset);
        read(Buffer.from(value.bytes));
      }
      return frames.shift();
    };

    await process.write(Buffer.concat([Buffer.from('noise \x01\x01 and the tail of a frame'), hello, ping(1)]));
    expect((await next())?.type).toBe(agentFrame.hello);
    expect(await next()).toMatchObject({ type: agentFrame.pong, id: 1 });

    const begun = encodeFrame({ type: hostFrame.ping, id: 2, payload: Buffer.alloc(60) }).subarray(0, 30);
    await process.write(Buffer.concat([begun, padding, hello, ping(3)]));
    expect(await next()).toMatchObject({ type: agentFrame.pong, id: 2 });
    expect((await next())?.type).toBe(agentFrame.hello);
    expect(await next()).toMatchObject({ type: agentFrame.pong, id: 3 });

    await process.write(Buffer.concat([Buffer.alloc(12, 0xee), hello, ping(4)]));
    expect((await next())?.type).toBe(agentFrame.goodbye);
    expect((await next())?.type).toBe(agentFrame.hello);
    expect(await next()).toMatchObject({ type: agentFrame.pong, id: 4 });
    process.kill(9);
    await process.exit;
  });
});
