/** A table in Markdown; every column but the first is aligned to the right when its cells begin with a digit. */
export function markdownTable(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const rule = head.map((_, column) => (isNumeric(column, lines) ? '---:' : '---'));
  return [head, rule, ...lines].map((cells) => `| ${cells.map(escapeCell).join(' | ')} |`).join('\n');
}

function isNumeric(column: number, lines: readonly (readonly string[])[]): boolean {
  const cells = lines.map((line) => line[column] ?? '');
  return column > 0 && cells.some((cell) => /^\d/.test(cell)) && cells.every((cell) => /^[\d–]/.test(cell));
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}
