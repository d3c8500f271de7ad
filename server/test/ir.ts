/** IR of the flat dialect from `key: [command, buildsIn?]`. */
export function ir(steps: Record<string, readonly [command: string, buildsIn?: string]>, extra: object = {}): string {
  return JSON.stringify({
    version: '0',
    steps: Object.entries(steps).map(([key, [cmd, builds_in]]) => ({
      type: 'command',
      key,
      cmd,
      builds_in: builds_in ?? null,
    })),
    ...extra,
  });
}
