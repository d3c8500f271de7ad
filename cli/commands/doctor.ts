import type { Command } from 'commander';
import colors from 'picocolors';
import type { CliContext } from '../context.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Requirement } from '../requirement.ts';

export function registerDoctor(program: Command, context: CliContext): void {
  program
    .command('doctor')
    .description('show what this machine has and lacks for running builds')
    .action(async () => {
      const requirements = await readRequirements(context);
      const ready = requirements.every(({ status }) => status !== 'missing');
      if (context.json) context.stdout.write(`${JSON.stringify({ ready, requirements })}\n`);
      else context.stdout.write(`${requirements.map(present).join('\n')}\n\n${conclude(ready)}\n`);
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

const words = {
  ok: colors.green('found  '),
  missing: colors.red('missing'),
  warning: colors.yellow('warning'),
} as const;

function present({ name, status, detail, fix }: Requirement): string {
  const line = `${words[status]}  ${name.padEnd(18)} ${detail}`;
  return fix && status !== 'ok' ? `${line}\n${' '.repeat(28)} fix: ${fix}` : line;
}

function conclude(ready: boolean): string {
  return ready ? 'Builds can run here.' : 'Builds cannot run here yet.';
}
