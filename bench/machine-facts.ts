import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const lookMs = 1_000;

/** What the figures were measured on. */
export async function machineFacts(): Promise<Readonly<Record<string, string>>> {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: String(availableParallelism()),
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    system: await systemName(),
    node: process.version,
    runtime: await firstLine('runc', ['--version']),
    podman: await firstLine('podman', ['--version']),
  };
}

/** The commit the figures belong to, with a mark when files differ from it. */
export async function currentCommit(): Promise<string> {
  const hash = await firstLine('git', ['rev-parse', '--short=12', 'HEAD']);
  const { stdout } = await run('git', ['status', '--porcelain', '--untracked-files=no']).catch(() => ({ stdout: '' }));
  return stdout.trim() === '' ? hash : `${hash}+changes`;
}

/** Share of the processors that is busy while this process waits, 0 to 1. */
export async function busyShare(): Promise<number> {
  const before = await processorTicks();
  await delay(lookMs);
  const after = await processorTicks();
  const total = after.total - before.total;
  return total <= 0 ? 0 : 1 - (after.idle - before.idle) / total;
}

async function processorTicks(): Promise<{ total: number; idle: number }> {
  const [line = ''] = (await readFile('/proc/stat', 'utf8')).split('\n');
  // user nice system idle iowait irq softirq steal; guest time is part of user.
  const ticks = line.split(/\s+/).slice(1, 9).map(Number);
  return { total: ticks.reduce((sum, each) => sum + each, 0), idle: (ticks[3] ?? 0) + (ticks[4] ?? 0) };
}

async function systemName(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? 'unknown';
}

async function firstLine(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await run(program, [...args]).catch(() => ({ stdout: '' }));
  return stdout.split('\n')[0]?.trim() || 'not installed';
}
