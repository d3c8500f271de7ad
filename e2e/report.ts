/** Writes how long something took; figures are shown, not judged. */
export function reportMs(what: string, sinceMs: number): void {
  console.log(`${what}: ${Math.round(performance.now() - sinceMs)} ms`);
}
