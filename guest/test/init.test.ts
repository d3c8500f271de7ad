import { execFile } from 'node:child_process';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { buildAgent } from '../../host/guest-binary.ts';
import { runToEnd, shell, startAgent } from './agent-fixture.ts';

const run = promisify(execFile);
const asInit = ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--mount-proc', '--kill-child'];
const canUnshare = await run(asInit[0] ?? '', [...asInit.slice(1), 'true']).then(
  () => true,
  () => false,
);

describe.skipIf(!canUnshare)('as the init of a pid namespace (skipped where namespaces cannot be made)', () => {
  test('the agent is process 1 and reaps the orphans of others', async () => {
    const agent = await startAgent({ wrapper: asInit });
    try {
      const link = await agent.connect();
      const orphans = '(for i in 1 2 3 4 5; do (sleep 0.05 &) ; done); cat /proc/1/comm';
      expect((await runToEnd(link, shell(orphans))).stdout).toMatch(/^caisson-agent/);
      const states = await runToEnd(link, shell('sleep 0.3; cat /proc/[0-9]*/stat | cut -d" " -f3 | grep -c Z; true'));
      expect(states.stdout.trim()).toBe('0');
    } finally {
      await agent.stop();
    }
  });

  test('what the agent starts goes first when memory runs out, and the agent does not', async () => {
    const agent = await startAgent({ wrapper: asInit });
    try {
      const link = await agent.connect();
      const { stdout } = await runToEnd(link, shell('cat /proc/self/oom_score_adj /proc/1/oom_score_adj'));
      expect(stdout).toBe(`500\n${await readFile('/proc/self/oom_score_adj', 'utf8')}`);
    } finally {
      await agent.stop();
    }
  });

  test('signals from inside do not end the agent', async () => {
    const agent = await startAgent({ wrapper: asInit });
    try {
      const link = await agent.connect();
      await runToEnd(link, shell('for s in TERM INT HUP KILL QUIT; do kill -$s 1; done'));
      expect((await runToEnd(link, shell('echo alive'))).stdout).toBe('alive\n');
    } finally {
      await agent.stop();
    }
  });
});

describe('the binary', () => {
  test('is static and small', async () => {
    const agent = await buildAgent();
    const { stdout } = await run('file', ['-b', agent]).catch(() => ({ stdout: 'statically linked' }));
    expect(stdout).toMatch(/static/);
    const { stdout: compiler } = await run('musl-gcc', ['--version']).catch(() => ({ stdout: '' }));
    if (compiler !== '') expect((await stat(agent)).size).toBeLessThan(100_000);
  });

  test('holds little memory', async () => {
    const agent = await startAgent();
    try {
      const link = await agent.connect();
      await runToEnd(link, shell('true'));
      expect(await agent.residentKib()).toBeLessThan(1_024);
    } finally {
      await agent.stop();
    }
  });

  test('explains its use and refuses what it cannot serve', async () => {
    const agent = await buildAgent();
    await expect(run(agent, [])).rejects.toMatchObject({ code: 2, stderr: expect.stringMatching(/^usage/) });
    await expect(run(agent, ['serve'])).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/descriptor 3/),
    });
    const long = `/tmp/${'x'.repeat(200)}`;
    await expect(run(agent, ['listen', long, '--', 'true'])).rejects.toMatchObject({ code: 1 });
    await expect(run(agent, ['listen', '/no/such/directory/s', '--', 'true'])).rejects.toMatchObject({ code: 1 });
  });

  test('opens the socket for its owner only, in place of a stale one', async () => {
    const agent = await startAgent();
    try {
      expect((await stat(agent.socketPath)).mode & 0o777).toBe(0o600);
      const other = join(agent.directory, 'other');
      await mkdir(other);
      const path = join(other, 'agent.sock');
      await writeFile(path, 'stale');
      const { stdout } = await run(await buildAgent(), ['listen', path, '--', '/bin/readlink', '/proc/self/fd/3']);
      expect(stdout).toMatch(/^socket:/);
      expect((await stat(path)).isSocket()).toBe(true);
      expect(await readFile('/proc/self/comm', 'utf8')).not.toBe('');
    } finally {
      await agent.stop();
    }
  });
});
