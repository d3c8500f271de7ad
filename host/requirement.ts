/** One thing a machine needs, as `caisson doctor` shows it. */
export interface Requirement {
  readonly name: string;
  /** `missing` keeps a build from running here; `warning` does not. */
  readonly status: 'ok' | 'missing' | 'warning';
  /** What was found, or what was tried. */
  readonly detail: string;
  /** What to type or change; null when there is nothing to do. */
  readonly fix: string | null;
}

export function ok(name: string, detail: string): Requirement {
  return { name, status: 'ok', detail, fix: null };
}

export function missing(name: string, detail: string, fix: string): Requirement {
  return { name, status: 'missing', detail, fix };
}

export function warning(name: string, detail: string, fix: string | null): Requirement {
  return { name, status: 'warning', detail, fix };
}
