import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { repositoryDir } from '../cli/installation.ts';
import { seedImage } from '../host/test/image-cache.ts';
import { runToEnd } from './program.ts';

const caisson = join(repositoryDir, 'caisson');

/** `./caisson` on a data directory of its own that has its image and was started once. */
interface WarmCli {
  run(words: readonly string[]): Promise<string>;
  /** `caisson up`, ready to be asked. */
  up(): Promise<UpProcess>;
  /** Ends what is up, too. */
  end(): Promise<void>;
}

interface UpProcess {
  readonly pid: number;
  readonly url: string;
  readonly token: string;
  end(): Promise<void>;
}

export async function openWarmCli(say: (line: string) => void): Promise<WarmCli> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-bench-'));
  const env = { ...process.env, CAISSON_DATA_DIR: dataDir, CAISSON_PORT: '0' };
  const run = (words: readonly string[]) => runToEnd([caisson, ...words], { cwd: repositoryDir, env });
  try {
    await seedImage(join(dataDir, 'host'));
    say('one run to warm everything up');
    await run(['run', 'examples/hello']);
  } catch (error) {
    await rm(dataDir, { recursive: true, force: true });
    throw error;
  }
  const ups = new Set<() => Promise<void>>();
  return {
    run,
    async up() {
      const child = spawn(caisson, ['--json', 'up'], {
        cwd: repositoryDir,
        env,
        stdio: ['ignore', 'pipe', 'inherit'],
        detached: true,
      });
      const ended = once(child, 'exit');
      const ready = once(createInterface({ input: child.stdout }), 'line');
      const end = async () => {
        ups.delete(end);
        child.kill('SIGTERM');
        await ended;
      };
      ups.add(end);
      const [line] = await Promise.race([ready, ended.then(() => [null])]);
      if (line === null) throw new Error('caisson up ended at once');
      const { url, token } = JSON.parse(line) as { url: string; token: string };
      return { pid: child.pid ?? 0, url, token, end };
    },
    async end() {
      for (const endUp of ups) await endUp();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
