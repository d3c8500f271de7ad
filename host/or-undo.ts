/** What `work` makes. When it fails, `undo` is tried, and the failure of `work` is thrown, whatever becomes of that. */
export async function orUndo<Result>(work: () => Promise<Result>, undo: () => Promise<unknown>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    await undo().catch(() => {});
    throw error;
  }
}
