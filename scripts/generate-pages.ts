import { ciOperations } from '@caisson/contracts/ci/document';
import type { Operation } from '@caisson/contracts/ci/document/operation';
import { implementedOperations } from '@caisson/contracts/ci/implemented';
import { ciErrorTypes, type ErrorRow } from '@caisson/contracts/error-row';
import { errorTable } from '@caisson/contracts/error-table';
import { outcomeTable } from '@caisson/contracts/outcome-table';

const implemented: ReadonlySet<string> = new Set(implementedOperations);

/** `docs/ci-api.md`: every operation of the CI door and whether it works. */
export function ciApiPage(): string {
  const rows = ciOperations.map((operation) => [
    `\`${operation.id}\``,
    operation.method.toUpperCase(),
    `\`${operation.path}\``,
    accessOf(operation),
    implemented.has(operation.id) ? 'yes' : 'no',
    operation.own ? `${operation.summary} (ours)` : operation.summary,
  ]);
  return [
    '# Operations of the CI door',
    '',
    'Written by `scripts/generate`; the sources are `contracts/ci/document` and `contracts/ci/implemented.ts`.',
    '',
    `${implemented.size} of ${rows.length} operations work; the others answer 501 \`not_implemented\`. The contract is`,
    '[`contracts/ci/openapi.json`](../contracts/ci/openapi.json). Besides it the door serves the log streams',
    '(`GET /v0/jobs/{job_id}/logs`, see [log-stream.md](log-stream.md)), `GET /healthz` and `GET /metrics`. Refusals: [errors.md](errors.md).',
    '',
    ...table(['Operation', 'Method', 'Path', 'Token', 'Works', 'What it does'], rows),
    '',
  ].join('\n');
}

function accessOf(operation: Operation): string {
  if (operation.security === 'none') return 'none';
  return operation.security === 'runnerToken' ? 'of the build' : 'yours';
}

/** `docs/errors.md`: every error code, what it means and what to do. */
export function errorPage(): string {
  const rows: [string, ErrorRow][] = Object.entries(errorTable);
  const answered = rows.flatMap(([code, row]) => (row.ci ? [{ code, row, ci: row.ci }] : []));
  const inner = rows.filter(([, row]) => !row.ci);
  return [
    '# Error codes',
    '',
    'Written by `scripts/generate`; the sources are `contracts/error-table.ts` and `contracts/outcome-table.ts`.',
    '',
    'A refusal of the CI door is `{"error": {"type", "code", "message", "doc_url", "request_id"}}`. Branch on `code`; `type` groups codes and',
    `is one of ${ciErrorTypes.map((type) => `\`${type}\``).join(', ')}. "Again" tells whether the same request may succeed later.`,
    '',
    '## Answered by the CI door',
    '',
    ...table(
      ['Code', 'Status', 'Type', 'Again', 'Meaning and remedy'],
      answered.map(({ code, row, ci }) => [anchor(code), `${ci.status}`, `\`${ci.type}\``, again(row), row.help]),
    ),
    '',
    '## Stored on a build or a job',
    '',
    'Found in `error_code`; `error_message` names the step and the details.',
    '',
    ...table(
      ['Code', 'Of', 'Meaning and remedy'],
      Object.entries(outcomeTable).map(([code, { of, help }]) => [anchor(code), of, help]),
    ),
    '',
    '## Inside the machine',
    '',
    'In logs and in the output of `caisson doctor`; at the CI door they become `internal_error`.',
    '',
    ...table(
      ['Code', 'Again', 'Meaning and remedy'],
      inner.map(([code, row]) => [`\`${code}\``, again(row), row.help]),
    ),
    '',
  ].join('\n');
}

function anchor(code: string): string {
  return `<a id="${code}"></a>\`${code}\``;
}

function again(row: ErrorRow): string {
  return row.retryable ? 'yes' : 'no';
}

/** A table in the layout Biome gives it: every column as wide as its widest cell. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    `| ${widths.map((width, column) => (row[column] ?? '').padEnd(width)).join(' | ')} |`;
  const [first = [], ...rest] = cells;
  return [line(first), line(widths.map((width) => '-'.repeat(width))), ...rest.map(line)];
}
