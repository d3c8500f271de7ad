import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { buildAgent } from '../guest-binary.ts';
import { type ResidentPrograms, startResidentPrograms } from '../resident-programs.ts';
import { ProgramError } from '../run-program.ts';
import { tempDir } from './temp-dir.ts';

describe('the process that starts programs for the host', () => {
  it('hands on arguments, input and both outputs as they are', async () => {
    const { run } = await open();
    const words = ['', ' ', "'", '"$HOME"', '`id`', 'a\nb', '*', '\\', '-n', 'ü', '\x01'];
    const printed = await run(['sh', '-c', 'printf "<%s>" "$@"; cat; echo bad >&2; pwd', 'sh', ...words], {
      cwd: '/proc',
      stdin: 'given\n',
    });
    expect(printed).toEqual({ stdout: `${words.map((word) => `<${word}>`).join('')}given\n/proc\n`, stderr: 'bad\n' });
  });

  it('says how a program ended badly, with its last words', async () => {
    const { run } = await open();
    const failing = run(['sh', '-c', 'echo out; echo why >&2; exit 3']);
    await expect(failing).rejects.toMatchObject({ message: 'sh exited with 3: why', exitCode: 3, stdout: 'out\n' });
    await expect(failing).rejects.toBeInstanceOf(ProgramError);
    await expect(run(['sh', '-c', 'kill -9 $$'])).rejects.toMatchObject({ exitCode: null });
    await expect(run(['/no/such'])).rejects.toThrow(/^such could not be started .*program not found/);
    await expect(run(['sleep', '100'], { timeoutMs: 20 })).rejects.toThrow('took longer than 20 ms');
  });

  it('runs more programs at once than the agent has places', async () => {
    const { run } = await open();
    const numbers = Array.from({ length: 150 }, (_, index) => `${index}\n`);
    const outputs = await Promise.all(numbers.map((number) => run(['cat'], { stdin: number })));
    expect(outputs.map(({ stdout }) => stdout)).toEqual(numbers);
  });

  it('takes a megabyte in and gives it back', async () => {
    const { run } = await open();
    const stdin = 'line of text\n'.repeat(80_000);
    expect((await run(['cat'], { stdin })).stdout).toBe(stdin);
  });

  it('keeps only the beginning of what a program never stops to say, and does not wait for what it left', async () => {
    const { run } = await open();
    const { stdout } = await run(['sh', '-c', 'head -c 20000000 /dev/zero | tr "\\0" x; setsid sleep 4713 &']);
    expect(stdout.length).toBeLessThan(5_000_000);
    expect(await sleepers('4713')).toBe(1);
    await run(['sh', '-c', 'kill $(pgrep -f "^sleep 4713$")']);
  });

  it('goes on without it when it is lost', async () => {
    const { run } = await open();
    const pid = (await run(['sh', '-c', 'echo $PPID'])).stdout;
    const running = run(['sleep', '100']);
    process.kill(Number(pid), 'SIGKILL');
    await expect(running).rejects.toThrow(/could not be started|agent/);
    expect((await run(['echo', 'still'])).stdout).toBe('still\n');
  });

  it('is gone with its programs when it is closed, and when its host is killed', async () => {
    const closed = await open();
    const sleeping = closed.run(['sleep', '4711']).catch(() => {});
    await expect.poll(() => sleepers('4711')).toBe(1);
    await closed.close();
    await sleeping;
    await expect.poll(() => sleepers('4711')).toBe(0);
    const program = `import { startResidentPrograms } from '${join(import.meta.dirname, '..', 'resident-programs.ts')}';
      const { run } = await startResidentPrograms(${JSON.stringify(await place())});
      run(['sleep', '4712']);`;
    const host = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'ignore' });
    await expect.poll(() => sleepers('4712'), { timeout: 10_000 }).toBe(1);
    host.kill('SIGKILL');
    await once(host, 'exit');
    await expect.poll(() => sleepers('4712')).toBe(0);
  });
});

async function open(): Promise<ResidentPrograms> {
  const programs = await startResidentPrograms(await place());
  onTestFinished(() => programs.close());
  return programs;
}

async function place(): Promise<{ agentPath: string; socketPath: string }> {
  return { agentPath: await buildAgent(), socketPath: join(await tempDir(), 'programs.sock') };
}

async function sleepers(argument: string): Promise<number> {
  const names = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(names.map((name) => readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line === `sleep\0${argument}\0`).length;
}
