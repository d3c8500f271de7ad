import type { Command } from 'commander';
import type { CliConfig } from './config.ts';

/** What a command works with besides its own arguments. */
export interface CliContext {
  readonly config: CliConfig;
  /** `--json` was given: one JSON document, or one per line, on stdout and nothing else there. */
  readonly json: boolean;
  /** Whether stdout may be colored: a terminal, and neither `--no-color` nor NO_COLOR. */
  readonly hasColors: boolean;
  /** Size of the terminal that stdout is; null when it is none. */
  readonly terminal: (() => { readonly rows: number; readonly columns: number }) | null;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  /** Sets the exit code of a command that ends without an error, such as that of a failed build. */
  exit(code: number): void;
}

/** Adds one command to the program. */
export type RegisterCommand = (program: Command, context: CliContext) => void;
