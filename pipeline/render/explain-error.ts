import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';

const maxCharacters = 4000;
/** These tools may stand inside the repository they render: their own. */
const toolsFolder = fileURLToPath(new URL('..', import.meta.url));

/** Where to look for the place of an error. */
export interface Surroundings {
  /** Null when no repository was opened. */
  readonly workspace: string | null;
  /** The pipeline file that was being read, where the error itself does not tell. */
  readonly file: string | null;
}

/**
 * What went wrong as its author wants to read it: `file:line:column: message`, the place being the innermost one inside the
 * repository, with the source line where the parser gives one and the causes behind it.
 */
export function explainError(error: unknown, { workspace, file }: Surroundings): string {
  const lines: string[] = [];
  for (let at: unknown = error, depth = 0; at !== undefined && depth < 4; depth += 1) {
    lines.push(depth === 0 ? explainOne(at, workspace, file) : `caused by: ${explainOne(at, workspace, null)}`);
    at = at instanceof Error && !isLoaderError(at.cause) ? at.cause : undefined;
  }
  const text = lines.join('\n');
  return text.length > maxCharacters ? `${text.slice(0, maxCharacters)}...` : text;
}

function explainOne(error: unknown, workspace: string | null, file: string | null): string {
  const start = file === null ? '' : `${file}: `;
  if (!(error instanceof Error)) return `${start}threw ${typeof error === 'string' ? error : inspect(error)}`;
  const message = `${withName(error)}${hintFor(error)}`.replaceAll(workspace === null ? '' : `${workspace}/`, '');
  const [, path = '', line, source = ''] =
    /^(\/.*|file:.*):(\d+)\n([\s\S]*?)\n\w*Error\b/.exec(error.stack ?? '') ?? [];
  const parsed = insideWorkspace(path, workspace);
  if (parsed !== undefined) return `${parsed}:${line}: ${message}\n${source.trimEnd()}`;
  const place = firstFrame(error.stack ?? '', workspace);
  if (place !== undefined) return `${place}: ${message}`;
  return message.includes(file ?? '') ? message : `${start}${message}`;
}

function firstFrame(stack: string, workspace: string | null): string | undefined {
  for (const [, path = '', position] of stack.matchAll(/^\s+at .*?\(?((?:file:\/\/)?\/[^\n]*?):(\d+:\d+)\)?$/gm)) {
    const file = insideWorkspace(path, workspace);
    if (file !== undefined) return `${file}:${position}`;
  }
  return undefined;
}

function insideWorkspace(place: string, workspace: string | null): string | undefined {
  const path = place.startsWith('file://') ? fileURLToPath(place) : place;
  if (workspace === null || (path.startsWith(toolsFolder) && !workspace.startsWith(toolsFolder))) return undefined;
  return path.startsWith(`${workspace}/`) ? path.slice(workspace.length + 1) : undefined;
}

function withName(error: Error): string {
  return error.name === 'Error' ? error.message : `${error.name}: ${error.message}`;
}

function hintFor(error: Error): string {
  const missing = /does not provide an export named '(\w+)'/.exec(error.message)?.[1];
  if (missing !== undefined) return `. If ${missing} is a type, write: import type { ${missing} }`;
  if ('code' in error && error.code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') {
    return '. Types are stripped, not compiled: use plain objects in place of enums, namespaces and parameter properties.';
  }
  return '';
}

function isLoaderError(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && String(cause.code).startsWith('ERR_MODULE');
}
