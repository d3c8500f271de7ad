import type { ErrorCode } from './error-table.ts';

/**
 * The one error thrown on purpose. `code` decides the status at each door and whether a repeat can help; `message` is shown to the
 * user and says what to do; `cause` stays in the log.
 */
export class AppError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'AppError';
    this.code = code;
  }
}

/** What an error says, or the text of whatever else was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** True for an `AppError` with this code, also across duplicated modules. */
export function hasCode(error: unknown, code: ErrorCode): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
