import { messageOf } from '@caisson/contracts/app-error';
import type { ErrorRow } from '@caisson/contracts/error-row';
import { CommanderError } from 'commander';
import { CliError } from './cli-error.ts';
import { exitCodes } from './exit-codes.ts';

/** An error as the person and the shell see it. */
export interface Failure {
  readonly exitCode: number;
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

/** Judges what a command (`builds show`) has thrown; null for help and version, which end a command without being errors. */
export async function readFailure(error: unknown, commandPath: string): Promise<Failure | null> {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return null;
    const hint = `see \`${['caisson', commandPath, '--help'].filter(Boolean).join(' ')}\``;
    // Where a command was left out, it is the help that would be shown.
    const message = error.code === 'commander.help' ? 'which command?' : error.message.replace(/^error: /, '');
    return { exitCode: exitCodes.usage, code: 'usage', message, hint };
  }
  if (error instanceof CliError) return error;
  const message = messageOf(error);
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    const exitCode = await exitCodeOf(error.code);
    if (exitCode !== null) return { exitCode, code: error.code, message, hint: null };
  }
  const hint = 'this was not foreseen; CAISSON_DEBUG=1 shows where it happened';
  return { exitCode: exitCodes.machine, code: 'internal_error', message, hint };
}

const usageCodes = ['invalid_config', 'invalid_argument', 'invalid_request'];
const pipelineCodes = ['pipeline_invalid', 'build_plan_rejected'];
const machineCodes = ['database_unavailable', 'database_too_new', 'service_unavailable'];

/** The exit code for a code of the product's error table; null for any other code. The table is loaded only now. */
async function exitCodeOf(code: string): Promise<number | null> {
  const { errorTable } = await import('@caisson/contracts/error-table');
  const row = new Map<string, ErrorRow>(Object.entries(errorTable)).get(code);
  if (!row) return null;
  if (usageCodes.includes(code)) return exitCodes.usage;
  if (pipelineCodes.includes(code)) return exitCodes.invalidPipeline;
  if (!row.ci || machineCodes.includes(code)) return exitCodes.machine;
  return row.ci.status === 401 || row.ci.status === 403 ? exitCodes.auth : exitCodes.api;
}
