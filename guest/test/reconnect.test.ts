import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { beforeAll, expect, test } from 'vitest';
import type { GuestLink, GuestProcess } from '../../host/guest-link.ts';
import { command, finish, readUntil, runToEnd, shell } from './agent-fixture.ts';
import { describeAgents } from './agent-variants.ts';

const counting = 'i=0; while [ $i -lt 200000 ]; do echo line $i; i=$((i+1)); done';
const expected = Array.from({ length: 200_000 }, (_, index) => `line ${index}\n`).join('');

function known(process: GuestProcess | null): GuestProcess {
  if (process === null) throw new Error('the process was forgotten');
  return process;
}

describeAgents('a connection', (agent) => {
  let link: GuestLink;
  beforeAll(async () => {
    link = await agent().connect();
  });

  test('lost in the middle of the output loses nothing', async () => {
    const { processId } = await link.exec(shell(counting));
    let text = '';
    let offset = 0;
    while (text.length < expected.length) {
      link = await agent().connect();
      const process = known(await link.attach(processId, offset));
      let taken = 0;
      for await (const output of process.output()) {
        text += Buffer.from(output.bytes).toString();
        offset = output.endOffset;
        taken += output.bytes.length;
        process.acknowledge(offset);
        if (taken > 300_000) break;
      }
    }
    expect(text === expected).toBe(true);
    link = await agent().connect();
    const process = known(await link.attach(processId, offset));
    expect((await process.exit).exitCode).toBe(0);
    process.forget();
  });

  test('may ask again for what was not acknowledged, from any offset', async () => {
    const first = await link.exec(shell('printf aaa; sleep 0.05; printf bbb >&2; sleep 0.05; printf ccc'));
    await first.exit;
    link = await agent().connect();
    const all = known(await link.attach(first.processId, 0));
    const pieces: unknown[] = [];
    for await (const { stream, bytes, endOffset } of all.output()) {
      pieces.push([stream, Buffer.from(bytes).toString(), endOffset]);
    }
    expect(pieces).toEqual([
      ['stdout', 'aaa', 3],
      ['stderr', 'bbb', 6],
      ['stdout', 'ccc', 9],
    ]);
    const part = known(await link.attach(first.processId, 5));
    expect(await finish(part)).toMatchObject({ stderr: 'b', stdout: 'ccc', endOffset: 9 });
    await link.ping();
    await expect(link.attach(first.processId, 2)).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(link.attach(first.processId, 10)).rejects.toMatchObject({ code: 'invalid_argument' });
    const end = known(await link.attach(first.processId, 9));
    expect((await end.exit).exitCode).toBe(0);
    end.forget();
    expect(await link.attach(first.processId, 9)).toBeNull();
  });

  test('that is replaced ends, and everything that waited on it says so', async () => {
    const old = await agent().connect();
    const process = await old.exec(command(['sleep', '600']));
    const reading = expect(readUntil(process.output(), 'x')).rejects.toMatchObject({ code: 'guest_lost' });
    link = await agent().connect();
    await reading;
    await expect(process.exit).rejects.toMatchObject({ code: 'guest_lost' });
    await expect(old.ping()).rejects.toMatchObject({ code: 'guest_lost' });
    await expect(old.exec(command(['true']))).rejects.toMatchObject({ code: 'guest_lost' });
    await expect(old.attach(1, 0)).rejects.toMatchObject({ code: 'guest_lost' });
    expect(await old.closed).toMatch(/took this one's place/);
    const taken = known(await link.attach(process.processId, 0));
    taken.kill(9);
    expect((await taken.exit).signal).toBe(9);
    taken.forget();
  });

  test('is taken up twice: the later handle is the live one', async () => {
    const first = await link.exec(shell('echo one; sleep 600'));
    await readUntil(first.output(), 'one');
    const second = known(await link.attach(first.processId, 0));
    await expect(first.exit).rejects.toMatchObject({ code: 'guest_lost' });
    await readUntil(second.output(), 'one');
    second.kill(9);
    await second.exit;
    second.forget();
  });

  test('keeps the input where it was', async () => {
    const first = await link.exec(command(['cat'], { stdin: true }));
    await first.write(Buffer.from('before '));
    await readUntil(first.output(), 'before');
    link = await agent().connect();
    const second = known(await link.attach(first.processId, 7));
    await second.write(Buffer.from('after'));
    second.closeStdin();
    expect(await finish(second)).toMatchObject({ stdout: 'after', endOffset: 12 });
    second.forget();
  });

  test('of a host killed with SIGKILL leaves its processes to the next', async () => {
    const script = `
      import { writeSync } from 'node:fs';
      import { connectGuest } from ${JSON.stringify(new URL('../../host/guest-channel.ts', import.meta.url).href)};
      const link = await connectGuest(process.argv[1]);
      const guest = await link.exec({ argv: ['/bin/sh', '-c', ${JSON.stringify(counting)}], env: {}, cwd: '/', processId: 99 });
      for await (const output of guest.output()) {
        writeSync(1, output.endOffset + '\\n'); // written down first, acknowledged then
        guest.acknowledge(output.endOffset);
      }`;
    const host = spawn(process.execPath, ['--input-type=module', '-e', script, agent().socketPath], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let notes = '';
    host.stdout.on('data', (chunk: Buffer) => {
      notes += chunk.toString();
      if (notes.length > 200) host.kill('SIGKILL');
    });
    await once(host, 'close');
    const offset = Number(notes.trim().split('\n').at(-1));
    link = await agent().connect();
    const process_ = known(await link.attach(99, offset));
    const { stdout, exit } = await finish(process_);
    expect(exit.exitCode).toBe(0);
    expect(stdout === expected.slice(offset)).toBe(true);
    expect(stdout.length).toBeGreaterThan(0);
    process_.forget();
  });

  test('that was never used does not disturb the agent', async () => {
    for (let round = 0; round < 20; round += 1) (await agent().connect()).close();
    link = await agent().connect();
    expect((await runToEnd(link, shell('echo fine'))).stdout).toBe('fine\n');
  });
});
