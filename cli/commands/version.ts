import type { Command } from 'commander';
import type { CliContext } from '../context.ts';
import { readVersion } from '../version.ts';

export function registerVersion(program: Command, context: CliContext): void {
  program
    .command('version')
    .description('show the version')
    .action(() => {
      const version = readVersion();
      context.stdout.write(context.json ? `${JSON.stringify({ version })}\n` : `caisson ${version}\n`);
    });
}
