import type { RegistryEnvelope } from '@caisson/pipeline/render/render-workspace';
import type { Command } from 'commander';
import type { CliContext } from '../context.ts';
import { discoverPipelines, renderLocally } from '../discover-pipelines.ts';
import { print } from '../print.ts';

const runsHere = `
The pipeline files (.caisson/*.ts, then .hm/*.ts) are TypeScript programs, and this command runs them on your machine, as you.
Do not use it on a repository you would not run; \`caisson run\` renders inside a capsule.`;

/** `caisson render [dir]`: the IR of one pipeline on stdout; what its files print goes to stderr. */
export function registerRender(program: Command, context: CliContext): void {
  program
    .command('render')
    .summary("print a pipeline's IR")
    .description(`Prints the IR of a pipeline as JSON.\n${runsHere}`)
    .argument('[dir]', 'the repository', '.')
    .option('-p, --pipeline <slug>', 'which pipeline; may be left out when there is one')
    .option('--org <slug>', 'the organization that cache keys belong to', 'default')
    .action(async (folder: string, options: { readonly pipeline?: string; readonly org: string }) => {
      const ir = await renderLocally(folder, options.pipeline ?? null, {
        organization: options.org,
        log: context.stderr,
      });
      print(context, ir, `${JSON.stringify(ir, null, 2)}\n`);
    });
}

/** `caisson pipelines [dir]`: what a repository offers, as a table or, with `--json`, as the registry envelope. */
export function registerPipelines(program: Command, context: CliContext): void {
  program
    .command('pipelines')
    .summary('list the pipelines of a repository')
    .description(`Lists the pipelines of a repository and what starts them.\n${runsHere}`)
    .argument('[dir]', 'the repository', '.')
    .action(async (folder: string) => {
      const envelope = await discoverPipelines(folder, { log: context.stderr });
      print(context, envelope, formatTable(envelope));
    });
}

function formatTable({ pipelines }: RegistryEnvelope): string {
  const rows = pipelines.map((pipeline) => [
    pipeline.slug,
    pipeline.name,
    String(pipeline.definition.graph.nodes.length),
    [...(pipeline.allow_manual ? ['by hand'] : []), ...pipeline.triggers.map(describeTrigger)].join('; ') || 'nothing',
  ]);
  const table = [['PIPELINE', 'NAME', 'STEPS', 'STARTED BY'], ...rows];
  const widths = [0, 1, 2].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  return table.map((row) => `${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}\n`).join('');
}

function describeTrigger(trigger: RegistryEnvelope['pipelines'][number]['triggers'][number]): string {
  if (trigger.event === 'pull_request') {
    return `pull request${trigger.branches.length === 0 ? '' : ` into ${trigger.branches.join(', ')}`}`;
  }
  return 'tags' in trigger ? `tag ${trigger.tags.join(', ')}` : `push to ${trigger.branches.join(', ')}`;
}
