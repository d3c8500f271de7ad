import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { PipelineScope } from '../server/test/pipeline-scope.ts';

/** A control plane in a process of its own. */
export interface EngineProcess {
  /** Creates builds of one IR and returns their ids. */
  build(pipelineIr: string, count: number): Promise<readonly string[]>;
  end(): Promise<void>;
}

/** What the process needs to know, as JSON in its first argument. */
export interface EngineSettings extends PipelineScope {
  readonly connectionString: string;
}

export interface BuildRequest {
  readonly pipelineIr: string;
  readonly count: number;
}

const program = fileURLToPath(new URL('engine-main.ts', import.meta.url));

/** Resolves when the engine runs and serves its host. */
export async function startEngineProcess(settings: EngineSettings): Promise<EngineProcess> {
  const child = fork(program, [JSON.stringify(settings)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await answer(child);
  return {
    async build(pipelineIr, count) {
      child.send({ pipelineIr, count } satisfies BuildRequest);
      return (await answer(child)) as string[];
    },
    async end() {
      if (child.exitCode !== null) return;
      const ended = once(child, 'exit');
      child.disconnect();
      await ended;
    },
  };
}

async function answer(child: ChildProcess): Promise<unknown> {
  const ended = new AbortController();
  try {
    const exit = once(child, 'exit', { signal: ended.signal }).then(([code]) => {
      throw new Error(`the control plane ended with ${code}`);
    });
    const [message] = await Promise.race([once(child, 'message', { signal: ended.signal }), exit]);
    return message;
  } finally {
    ended.abort();
  }
}
