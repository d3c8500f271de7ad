import { access, constants } from 'node:fs/promises';

/** Whether something is there. */
export function exists(path: string): Promise<boolean> {
  return isAllowed(path, constants.F_OK);
}

/** Whether it is there and this process may read and write it. */
export function isUsable(path: string): Promise<boolean> {
  return isAllowed(path, constants.R_OK | constants.W_OK);
}

function isAllowed(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
