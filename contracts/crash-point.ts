let hook: ((name: string) => void) | null = null;

/**
 * A place between a write and what follows from it, by name. Does nothing unless a test has the process end here: see the
 * `crash-points.test.ts` of server and host, which find every name in the source.
 */
export function crashPoint(name: string): void {
  hook?.(name);
}

/** Calls `reached` at every point from now on. */
export function watchCrashPoints(reached: (name: string) => void): void {
  hook = reached;
}
