/**
 * Milliseconds by a clock that nobody can set. Counted from the start of the machine, so that processes of one boot can compare what
 * they read; it stands still while the machine sleeps, as timers do.
 */
export function steadyMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
