let hook: ((name: string) => void) | null = null;

/**
 * A place between a write and what follows from it, by name. Does nothing unless a test has the process end here: see
 * `server/test/crash-points.test.ts`, which finds every name in the source.
 */
export function crashPoint(name: string): void {
  hook?.(name);
}

/** Calls `reached` at every point from now on. */
export function watchCrashPoints(reached: (name: string) => void): void {
  hook = reached;
}
