import { beforeAll, expect, test } from 'vitest';
import type { GuestLink } from '../../host/guest-link.ts';
import { readUntil, runToEnd, shell } from './agent-fixture.ts';
import { describeAgents } from './agent-variants.ts';

const pty = { rows: 33, cols: 101 };

describeAgents('a terminal', (agent) => {
  let link: GuestLink;
  beforeAll(async () => {
    link = await agent().connect();
  });

  test('has the size asked for and is the controlling one', async () => {
    const { stdout, stderr } = await runToEnd(
      link,
      shell('stty size; tty -s && echo yes > /dev/tty; echo e >&2', { pty }),
    );
    expect(stdout).toBe('33 101\r\nyes\r\ne\r\n');
    expect(stderr).toBe('');
  });

  test('belongs to the user of the process', async () => {
    const { stdout } = await runToEnd(link, shell('stat -c %U $(tty)', { pty, user: 'nobody' }));
    expect(stdout).toBe('nobody\r\n');
  });

  test('tells the process when its size changes', async () => {
    const process = await link.exec(
      shell('trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.01; done', { pty }),
    );
    const output = process.output();
    await readUntil(output, 'ready');
    process.resize(50, 200);
    await readUntil(output, '50 200');
    expect((await process.exit).exitCode).toBe(0);
    expect(() => process.resize(0, 10)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
  });

  test('turns control-c into an interrupt of the foreground', async () => {
    const process = await link.exec(shell('echo ready; exec cat', { pty })); // a shell that forks just now may miss it
    await readUntil(process.output(), 'ready');
    await process.write(Buffer.from('\x03'));
    expect(await process.exit).toMatchObject({ exitCode: 130 });
  });

  test('runs a shell that answers', async () => {
    const process = await link.exec(shell('exec sh -i', { pty, env: { PATH: '/usr/bin:/bin', PS1: '# ' } }));
    const output = process.output();
    await readUntil(output, '# ');
    await process.write(Buffer.from('echo $((6*7))\n'));
    await readUntil(output, '42');
    process.closeStdin();
    expect((await process.exit).exitCode).toBe(0);
  });

  test('delivers a flood to its last byte', async () => {
    const { stdout } = await runToEnd(
      link,
      shell('stty -opost; head -c 2000000 /dev/zero | tr "\\0" x; echo end', { pty }),
    );
    expect(stdout.length).toBe(2_000_004);
    expect(stdout.endsWith('xend\n')).toBe(true);
  });
});
