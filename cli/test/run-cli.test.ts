import { Writable } from 'node:stream';
import { AppError } from '@caisson/contracts/app-error';
import { expect, test } from 'vitest';
import { CliError } from '../cli-error.ts';
import { readCliConfig } from '../config.ts';
import { exitCodes } from '../exit-codes.ts';
import { readFailure } from '../failure.ts';
import { runCli } from '../run-cli.ts';

class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

const caisson = (...words: string[]) => caissonIn({}, ...words);

async function caissonIn(environment: Record<string, string>, ...words: string[]) {
  const stdout = new Sink();
  const stderr = new Sink();
  const exitCode = await runCli({ words, config: readCliConfig(environment), stdout, stderr });
  return { exitCode, stdout: stdout.text, stderr: stderr.text };
}

test('version prints one line, or one document with --json before or after it', async () => {
  expect(await caisson('version')).toEqual({
    exitCode: 0,
    stdout: expect.stringMatching(/^caisson \d+\.\d+\.\d+\n$/),
    stderr: '',
  });
  for (const words of [
    ['version', '--json'],
    ['--json', 'version'],
  ]) {
    expect(JSON.parse((await caisson(...words)).stdout)).toEqual({ version: expect.any(String) });
  }
});

test('help goes to stdout and is no error, with or without a command', async () => {
  for (const words of [[], ['--help'], ['version', '--help'], ['help'], ['help', 'version']]) {
    const { exitCode, stdout, stderr } = await caisson(...words);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toContain('Usage: caisson');
  }
});

test.for([
  { words: ['nonsense'], message: "unknown command 'nonsense'", hint: 'see `caisson --help`' },
  { words: ['version', '--nope'], message: "unknown option '--nope'", hint: 'see `caisson version --help`' },
  { words: ['--nope'], message: "unknown option '--nope'", hint: 'see `caisson --help`' },
  { words: ['version', 'extra'], message: 'too many arguments', hint: 'see `caisson version --help`' },
  { words: ['--no-color'], message: 'which command?', hint: 'see `caisson --help`' },
  { words: ['builds'], message: 'which command?', hint: 'see `caisson builds --help`' },
  { words: ['builds', 'show'], message: "missing required argument 'build'", hint: 'see `caisson builds show --help`' },
  {
    words: ['up', '--port', 'x'],
    message: "option '-p, --port <number>' argument 'x' is invalid",
    hint: 'see `caisson up --help`',
  },
  {
    words: ['run', '--driver', 'x'],
    message: "option '--driver <which>' argument 'x' is invalid",
    hint: 'see `caisson run --help`',
  },
])('$words is a usage error with a hint', async ({ words, message, hint }) => {
  const { exitCode, stdout, stderr } = await caisson(...words);
  expect({ exitCode, stdout }).toEqual({ exitCode: exitCodes.usage, stdout: '' });
  expect(stderr).toContain(`error: ${message}`);
  expect(stderr.trimEnd().split('\n').at(-1)).toBe(hint);
});

test.for([
  { words: ['run', 'no/where'], environment: {}, message: 'no/where is neither a folder nor the slug of a pipeline' },
  { words: ['run', 'slug', '--dir', '/no/where'], environment: {}, message: '/no/where is not a folder' },
  { words: ['host', '--listen', 'x'], environment: {}, message: '--listen x: it must be address:port' },
  { words: ['run', '--env', 'x'], environment: {}, message: '--env x: it must be NAME=value' },
  { words: ['render', '/no/where'], environment: {}, message: '/no/where is not a folder' },
  { words: ['pipelines', '/no/where'], environment: {}, message: '/no/where is not a folder' },
  {
    words: ['builds', 'list'],
    environment: { CAISSON_URL: 'nonsense' },
    message: 'CAISSON_URL is nonsense; it must begin with http:// or https://',
  },
])('$words is refused before anything is started', async ({ words, environment, message }) => {
  const { exitCode, stdout, stderr } = await caissonIn(environment, ...words);
  expect({ exitCode, stdout, stderr }).toEqual({
    exitCode: exitCodes.usage,
    stdout: '',
    stderr: `error: ${message}\n`,
  });
});

test('a folder without pipelines is refused before anything is started', async () => {
  const { exitCode, stderr } = await caisson('run', import.meta.dirname);
  expect(exitCode).toBe(exitCodes.invalidPipeline);
  expect(stderr).toMatch(/^error: no pipeline file found\. Write \.caisson\/pipeline\.ts/);
});

test('the help of every command shows the options that all have, too', async () => {
  const names = (await caisson('--help')).stdout.match(/^ {2}([a-z]+)/gm) ?? [];
  expect(names.length).toBeGreaterThan(9);
  for (const name of names.filter((each) => each.trim() !== 'help')) {
    expect((await caisson(name.trim(), '--help')).stdout).toMatch(/--json +print JSON for programs/);
  }
});

test('with --json an error is one document on stdout and nothing else', async () => {
  const { exitCode, stdout, stderr } = await caisson('nonsense', '--json');
  expect({ exitCode, stderr }).toEqual({ exitCode: exitCodes.usage, stderr: '' });
  const error = { code: 'usage', message: "unknown command 'nonsense'", hint: 'see `caisson --help`' };
  expect(JSON.parse(stdout)).toEqual({ error });
});

test.for([
  { error: new AppError('invalid_config', 'x'), exitCode: exitCodes.usage },
  { error: new AppError('unauthorized', 'x'), exitCode: exitCodes.auth },
  { error: new AppError('insufficient_org_role', 'x'), exitCode: exitCodes.auth },
  { error: new AppError('database_unavailable', 'x'), exitCode: exitCodes.machine },
  { error: new AppError('runtime_unavailable', 'x'), exitCode: exitCodes.machine },
  { error: new AppError('build_not_found', 'x'), exitCode: exitCodes.api },
  { error: new AppError('build_plan_rejected', 'x'), exitCode: exitCodes.invalidPipeline },
  { error: new Error('x'), exitCode: exitCodes.machine },
  { error: 'x', exitCode: exitCodes.machine },
  { error: new CliError('x', { exitCode: exitCodes.canceled, code: 'canceled' }), exitCode: exitCodes.canceled },
])('$error ends with exit code $exitCode', async ({ error, exitCode }) => {
  expect(await readFailure(error, 'run')).toMatchObject({ exitCode, message: 'x' });
});

test('doctor names every requirement and how to fix what is missing', async () => {
  const { exitCode, stdout } = await caisson('doctor', '--json');
  const { ready, requirements } = JSON.parse(stdout);
  expect(exitCode).toBe(ready ? exitCodes.ok : exitCodes.machine);
  expect(requirements.map(({ name }: { name: string }) => name)).toContain('PostgreSQL');
  for (const { status, detail, fix } of requirements) {
    expect(detail).not.toBe('');
    if (status === 'missing') expect(fix).toBeTruthy();
  }
});
