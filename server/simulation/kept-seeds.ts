/** Seeds that have shown something once, and what. They run before all others. */
export const keptSeeds: readonly { readonly seed: number; readonly found: string }[] = [];
