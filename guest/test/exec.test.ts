import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { GuestLink } from '../../host/guest-link.ts';
import { command, finish, runToEnd, shell } from './agent-fixture.ts';
import { describeAgents } from './agent-variants.ts';

describeAgents('exec', (agent) => {
  let link: GuestLink;
  beforeAll(async () => {
    link = await agent().connect();
  });

  test('gives both streams and the exit code', async () => {
    const result = await runToEnd(link, shell('echo out; echo err >&2; exit 7'));
    expect(result).toMatchObject({ stdout: 'out\n', stderr: 'err\n', endOffset: 8 });
    expect(result.exit).toEqual({ exitCode: 7, signal: null, timedOut: false });
  });

  test('keeps the order of the streams when they take turns', async () => {
    const process = await link.exec(shell('for i in 1 2 3; do echo o$i; sleep 0.02; echo e$i >&2; sleep 0.02; done'));
    let text = '';
    for await (const output of process.output()) text += Buffer.from(output.bytes).toString();
    expect(text).toBe('o1\ne1\no2\ne2\no3\ne3\n');
  });

  test('carries any byte', async () => {
    const all = Array.from({ length: 256 }, (_, byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
    const { stdout } = await runToEnd(link, shell(`printf '${all}'`));
    expect(Buffer.from(stdout, 'latin1')).toEqual(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
  });

  test('gives the environment asked for and nothing else', async () => {
    const { stdout } = await runToEnd(link, command(['/usr/bin/env'], { env: { A: '1', LONG: 'x'.repeat(100_000) } }));
    expect(stdout).toBe(`A=1\nLONG=${'x'.repeat(100_000)}\n`);
  });

  test('takes a large argument list in several frames', async () => {
    const arguments_ = Array.from({ length: 8000 }, (_, index) => `${index}`.padStart(100, '0'));
    const { stdout } = await runToEnd(
      link,
      command(['/bin/sh', '-c', 'echo $#; shift 7999; echo $1', 'sh', ...arguments_]),
    );
    expect(stdout).toBe(`8000\n${arguments_[7999]}\n`);
  });

  test('starts in the directory asked for with a fresh umask and only three descriptors', async () => {
    const { stdout } = await runToEnd(link, shell('pwd; umask; ls /proc/self/fd | wc -l', { cwd: agent().directory }));
    expect(stdout).toBe(`${agent().directory}\n0022\n4\n`); // the fourth is the directory that ls reads
  });

  test('starts with no signal blocked or ignored', async () => {
    const { stdout } = await runToEnd(link, command(['grep', '-E', '^Sig(Blk|Ign)', '/proc/self/status']));
    expect(stdout).toBe('SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n');
  });

  test('leaves it to its own starter what goes first when memory runs out', async () => {
    const own = await readFile('/proc/self/oom_score_adj', 'utf8');
    expect((await runToEnd(link, shell('cat /proc/self/oom_score_adj'))).stdout).toBe(own);
  });

  test('runs as the user asked for with its groups', async () => {
    const ids = async (user: string): Promise<string> =>
      (await runToEnd(link, shell('echo $(id -u) $(id -g) $(id -G)', { user }))).stdout.trim();
    expect(await ids('root')).toBe('0 0 0');
    expect(await ids('nobody')).toBe('65534 65534 65534');
    expect(await ids('65534')).toBe('65534 65534 65534');
    expect(await ids('1234:4321')).toBe('1234 4321 4321');
    expect(await ids('1234')).toBe('1234 0 0');
  });

  test('refuses what cannot be started and says why', async () => {
    await mkdir(join(agent().directory, 'dir'));
    await writeFile(join(agent().directory, 'plain'), 'x');
    await writeFile(join(agent().directory, 'garbage'), '\0\0', { mode: 0o755 });
    const refusal = async (spec: Parameters<GuestLink['exec']>[0]): Promise<unknown> =>
      link.exec(spec).catch((error: { code: string }) => error.code);
    const inDirectory = (name: string): string => join(agent().directory, name);
    expect(await refusal(command(['no-such-program']))).toBe('not_found');
    expect(await refusal(command(['/no/such/program']))).toBe('not_found');
    expect(await refusal(command([inDirectory('plain')]))).toBe('permission_denied');
    expect(await refusal(command([inDirectory('dir')]))).toBe('permission_denied');
    expect(await refusal(command([inDirectory('garbage')]))).toBe('invalid_argument');
    expect(await refusal(command(['true'], { cwd: '/no/such/directory' }))).toBe('not_found');
    expect(await refusal(command(['true'], { cwd: inDirectory('plain') }))).toBe('not_a_directory');
    expect(await refusal(command(['true'], { cwd: 'relative' }))).toBe('invalid_argument');
    expect(await refusal(command(['true'], { user: 'no-such-user' }))).toBe('not_found');
    expect(await refusal(command(['true'], { user: '1:x' }))).toBe('invalid_argument');
    expect(await refusal(command(['true'], { env: { 'A=B': 'c' } }))).toBe('invalid_argument');
    expect(await refusal(command(['a\0b']))).toBe('invalid_argument');
    expect(await refusal(command(['true'], { env: { A: 'x'.repeat(1_048_576) } }))).toBe('limit_exceeded');
    expect(await refusal(command(['true'], { env: { A: 'x'.repeat(200_000) } }))).toBe('limit_exceeded'); // the kernel's limit
  });

  test('keeps its own numbers of processes and refuses one that is taken', async () => {
    const process = await link.exec(command(['sleep', '60'], { processId: 4711 }));
    expect(process.processId).toBe(4711);
    await expect(link.exec(command(['true'], { processId: 4711 }))).rejects.toMatchObject({ code: 'already_exists' });
    process.kill(9);
    await process.exit;
    await expect(link.exec(command(['true'], { processId: 4711 }))).rejects.toMatchObject({ code: 'already_exists' });
    process.forget();
    expect(await link.attach(4711, 0)).toBeNull();
    const again = await link.exec(command(['true'], { processId: 4711 }));
    expect((await again.exit).exitCode).toBe(0);
    again.forget();
  });

  test('feeds the standard input with back-pressure and ends it', async () => {
    const process = await link.exec(command(['sha256sum'], { stdin: true }));
    const bytes = Buffer.alloc(3_000_000, 'caisson');
    const finished = finish(process);
    await process.write(bytes.subarray(0, 10));
    await process.write(bytes.subarray(10));
    process.closeStdin();
    expect((await finished).stdout).toBe(`${createHash('sha256').update(bytes).digest('hex')}  -\n`);
  });

  test('does not take more input than the process reads', async () => {
    const process = await link.exec(command(['sleep', '60'], { stdin: true }));
    let isHandedOver = false;
    const writing = process.write(Buffer.alloc(1_000_000)).then(
      () => {
        isHandedOver = true;
      },
      (error: { code: string }) => error.code,
    );
    for (let round = 0; round < 20; round += 1) await link.ping();
    expect(isHandedOver).toBe(false);
    process.kill(9);
    expect(await writing).toBe('io_error');
    process.forget();
  });

  test('tells a writer that the process closed its input', async () => {
    const process = await link.exec(shell('exec <&-; sleep 60', { stdin: true }));
    await expect(
      (async () => {
        for (;;) await process.write(Buffer.alloc(65_536));
      })(),
    ).rejects.toMatchObject({ code: 'io_error' });
    process.kill(9);
    await process.exit;
    process.forget();
  });

  test('gives an empty input unless one is asked for', async () => {
    const process = await link.exec(command(['cat']));
    await expect(process.write(Buffer.from('x'))).rejects.toMatchObject({ code: 'invalid_argument' });
    expect((await process.exit).exitCode).toBe(0);
    process.forget();
  });

  test('refuses more processes than there is room for, and makes room when they are done', async () => {
    const busy = [];
    for (let index = 0; index < 64; index += 1) {
      const started = await link.exec(command(['sleep', '60'])).catch((error: { code: string }) => error.code);
      if (typeof started === 'string') {
        expect(started).toBe('limit_exceeded');
        break;
      }
      busy.push(started);
    }
    expect(busy.length).toBeGreaterThan(50);
    await expect(link.exec(command(['true']))).rejects.toMatchObject({ code: 'limit_exceeded' });
    for (const process of busy) process.kill(9);
    await Promise.all(busy.map((process) => process.exit));
    for (let index = 0; index < 200; index += 1) {
      const process = await link.exec(command(['true']));
      await process.exit; // never forgotten: the oldest makes room
    }
  });
});
