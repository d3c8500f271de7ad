import { readCliConfig } from './config.ts';
import { runCli } from './run-cli.ts';

// A reader that has seen enough, as in `caisson logs | head`, is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await runCli({
  words: process.argv.slice(2),
  config: readCliConfig(),
  stdout: process.stdout,
  stderr: process.stderr,
});
