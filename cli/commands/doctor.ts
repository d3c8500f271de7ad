import type { Requirement } from '@caisson/host/requirement';
import type { Command } from 'commander';
import picocolors from 'picocolors';
import type { CliContext } from '../context.ts';
import { exitCodes } from '../exit-codes.ts';
import { print } from '../print.ts';

export function registerDoctor(program: Command, context: CliContext): void {
  program
    .command('doctor')
    .description('show what this machine has and lacks for running builds')
    .action(async () => {
      const requirements = await readRequirements(context);
      const ready = requirements.every(({ status }) => status !== 'missing');
      const conclusion = ready ? 'Builds can run here.' : 'Builds cannot run here yet.';
      print(context, { ready, requirements }, `${describe(requirements, context.hasColors)}\n${conclusion}\n`);
      context.exit(ready ? exitCodes.ok : exitCodes.machine);
    });
}

async function readRequirements({ config }: CliContext): Promise<Requirement[]> {
  const [{ readConfig }, { readHostConfig }, { hostRequirements }, { cloneRequirements }, { serverRequirements }] =
    await Promise.all([
      import('@caisson/server/config'),
      import('@caisson/host/config'),
      import('@caisson/host/requirements'),
      import('../clone-requirements.ts'),
      import('../server-requirements.ts'),
    ]);
  const settings = readConfig(config.environment);
  const parts = await Promise.all([
    cloneRequirements(),
    serverRequirements(settings),
    hostRequirements(settings.dataDir, readHostConfig(config.environment)),
  ]);
  return parts.flat();
}

function describe(requirements: readonly Requirement[], hasColors: boolean): string {
  const colors = picocolors.createColors(hasColors);
  const words = { ok: colors.green('found  '), missing: colors.red('missing'), warning: colors.yellow('warning') };
  const lines = requirements.map(({ name, status, detail, fix }) => {
    const line = `${words[status]}  ${name.padEnd(18)} ${detail}\n`;
    return fix && status !== 'ok' ? `${line}${' '.repeat(28)} fix: ${fix}\n` : line;
  });
  return lines.join('');
}
