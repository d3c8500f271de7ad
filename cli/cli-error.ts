import { messageOf } from '@caisson/contracts/app-error';
import { type ExitCode, exitCodes } from './exit-codes.ts';

interface CliErrorDetails {
  readonly exitCode: ExitCode;
  /** For `--json`: a snake_case word that scripts can branch on. */
  readonly code: string;
  /** What to do about it, as a line of its own. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Ends a command with a message for the person and a number for the shell. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  readonly code: string;
  readonly hint: string | null;

  constructor(message: string, { exitCode, code, hint, cause }: CliErrorDetails) {
    super(message, { cause });
    this.name = 'CliError';
    this.exitCode = exitCode;
    this.code = code;
    this.hint = hint ?? null;
  }
}

/** For words of the command line, or settings, that make no sense. */
export function usageError(message: string, hint?: string): CliError {
  return new CliError(message, { exitCode: exitCodes.usage, code: 'usage', ...(hint === undefined ? {} : { hint }) });
}

/** For a socket or port that cannot be had. */
export function cannotListen(where: string, error: unknown, hint: string): CliError {
  const message = `cannot listen on ${where}: ${messageOf(error)}`;
  return new CliError(message, { exitCode: exitCodes.machine, code: 'cannot_listen', hint, cause: error });
}
