import { readCliConfig } from './config.ts';
import { usePackedDependencies } from './packed-dependencies.ts';

// A reader that has seen enough, as in `caisson logs | head`, is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

usePackedDependencies();
const { runCli } = await import('./run-cli.ts');
process.exitCode = await runCli({
  words: process.argv.slice(2),
  config: readCliConfig(),
  stdout: process.stdout,
  stderr: process.stderr,
});
