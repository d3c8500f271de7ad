/**
 * Ids of every capsule's user namespace: inside id 0 is `baseId` on the host, and `count` ids follow. One range for all capsules,
 * because they share read-only layers whose owners are shifted once.
 */
export const idMap = { baseId: 100_000, count: 65_536 } as const;
