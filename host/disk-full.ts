import { AppError } from '@caisson/contracts/app-error';
import { ProgramError } from './run-program.ts';

const deepestCause = 8;
/** The last is what a capsule's agent makes of it, beside other things. */
const codes = { certain: ['ENOSPC', 'EDQUOT', 'disk_full'], possible: 'limit_exceeded' };

/** True when something failed because the host's disk has no space, no files or no quota left: here, in a program, or in a capsule. */
export function isDiskFull(error: unknown): boolean {
  let each = error;
  for (let depth = 0; each instanceof Error && depth < deepestCause; depth += 1) {
    const code = 'code' in each ? String(each.code) : '';
    if (codes.certain.includes(code)) return true;
    const said =
      each instanceof ProgramError ? each.message + each.stderr : code === codes.possible ? each.message : '';
    if (/no space left on device|disk quota exceeded/i.test(said)) return true;
    each = each.cause;
  }
  return false;
}

/** What is said of an image the disk has no room for. */
export function imageTooLarge(name: string, cause?: unknown): AppError {
  return new AppError('disk_full', `the disk of the host is full: image ${name} does not fit`, { cause });
}
