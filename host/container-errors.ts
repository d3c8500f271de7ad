import { AppError, messageOf } from '@caisson/contracts/app-error';
import type { ErrorCode } from '@caisson/contracts/error-table';
import { isDiskFull } from './disk-full.ts';

/** True for a system error with one of these codes, e.g. `ENOENT`. */
export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** The error itself when it already has a code of ours, else an `AppError` around it: `disk_full` where that is the cause. */
export function asAppError(error: unknown, code: ErrorCode, what: string): AppError {
  if (error instanceof AppError) return error;
  return new AppError(isDiskFull(error) ? 'disk_full' : code, `${what}: ${messageOf(error)}`, { cause: error });
}

/** Runs a step of a clean-up whose object may be gone already: a missing one is success. */
export async function ignoringMissing(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT', 'ESRCH', 'ENODEV')) throw error;
  });
}
