import { realpathSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { reserveStdout, writeAll } from './answer-descriptor.ts';
import { explainError } from './explain-error.ts';
import { hookImports } from './import-hooks.ts';
import { type RenderRequest, renderEnvelope, renderPipeline } from './render-workspace.ts';

const usage =
  'usage: render-main.ts <workspace> [slug] [--prefer <slug>] [--list] [--now <epoch seconds>] [--org <slug>] [--fd <number>]';
let answered = false;
let failureDescriptor = 2;
let file: string | null = null;

process.on('exit', () => {
  if (answered) return;
  process.exitCode = 1;
  explain(`${file}: ended the process, or awaits something that never comes, before it exported a pipeline.`);
});
process.on('uncaughtException', (error) => fail(error, workspace));

const { positionals, values } = readArguments();
const workspace = openWorkspace(positionals[0]);
// With a descriptor of its own the answer is the IR or, with exit code 1, the reason why there is none.
const answerDescriptor = values.fd === undefined ? reserveStdout() : Number(values.fd);
if (values.fd !== undefined) failureDescriptor = answerDescriptor;
process.chdir(workspace);
hookImports(`${pathToFileURL(workspace).href}/`);
void answer();

async function answer(): Promise<void> {
  try {
    const request: RenderRequest = {
      workspace,
      organization: values.org ?? 'default',
      nowSeconds: readNow(values.now),
      env: readEnvironment(),
      warn: (message) => process.stderr.write(`warning: ${message}\n`),
      reading: (next) => {
        file = next;
      },
    };
    const result =
      values.list === true
        ? await renderEnvelope(request)
        : await renderPipeline(request, { slug: positionals[1], preferred: values.prefer });
    writeAll(answerDescriptor, `${JSON.stringify(result)}\n`);
    answered = true;
    process.exit(0);
  } catch (error) {
    fail(error, workspace);
  }
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        list: { type: 'boolean' },
        prefer: { type: 'string' },
        now: { type: 'string' },
        org: { type: 'string' },
        fd: { type: 'string' },
      },
    });
  } catch (error) {
    return fail(new Error(`${error instanceof Error ? error.message : String(error)}\n${usage}`), null);
  }
}

function openWorkspace(path: string | undefined): string {
  if (path === undefined) return fail(new Error(usage), null);
  try {
    return realpathSync(path);
  } catch {
    return fail(new Error(`${path} does not exist or cannot be read.`), null);
  }
}

function readNow(text: string | undefined): number {
  const seconds = text === undefined ? Math.floor(Date.now() / 1000) : Number(text);
  if (!Number.isInteger(seconds) || seconds < 0)
    throw new Error(`--now ${text} is not a number of seconds since the epoch.`);
  return seconds;
}

function readEnvironment(): Readonly<Record<string, string>> {
  // biome-ignore lint/style/noProcessEnv: this is a program's entry, and cache policies name variables of the render's environment.
  const entries = Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
  return Object.fromEntries(entries);
}

function fail(error: unknown, root: string | null): never {
  explain(explainError(error, { workspace: root, file }));
  process.exit(1);
}

function explain(reason: string): void {
  answered = true;
  writeAll(failureDescriptor, `${reason}\n`);
}
