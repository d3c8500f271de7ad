import type { CliContext } from './context.ts';

/** What a command has to tell: with `--json` the value as one document, else the text. */
export function print({ json, stdout }: CliContext, value: unknown, text: string): void {
  stdout.write(json ? `${JSON.stringify(value)}\n` : text);
}
