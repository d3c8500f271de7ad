/** Seeds that have shown something once, and what. They run before all others. */
export const keptSeeds: readonly { readonly seed: number; readonly found: string }[] = [
  { seed: 1_847, found: 'a call that was repeated late began a run anew that the host had forgotten' },
  { seed: 2_333, found: 'the same, seconds after its last message was acknowledged' },
  {
    seed: 5_054,
    found: 'a host that had spoken and whose answer was lost got its lease again after it had lost its disk',
  },
];
