import type { Command } from 'commander';
import type { CliContext } from '../context.ts';
import { print } from '../print.ts';
import { readVersion } from '../version.ts';

export function registerVersion(program: Command, context: CliContext): void {
  program
    .command('version')
    .description('show the version')
    .action(() => {
      const version = readVersion();
      print(context, { version }, `caisson ${version}\n`);
    });
}
