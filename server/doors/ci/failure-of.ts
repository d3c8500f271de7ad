import { AppError } from '@caisson/contracts/app-error';
import type { ErrorCode } from '@caisson/contracts/error-table';
import { detailsOf } from './refused-plan.ts';

/** A refusal or failure in the terms of the door. */
export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

const frameworkCodes: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'payload_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
};

/** What the driver says by itself, without a code. */
const connectionLost =
  /^(?:Connection terminated|timeout exceeded when trying to connect|timeout expired|Client has encountered a connection error|Client was closed and is not queryable)/;
const databaseGone = /^(?:ECONNREFUSED|ECONNRESET|ENOENT|EPIPE|57P0[123]|08\w{3}|53300)$/;

/** What to answer for whatever was thrown. `invalidCode` is the operation's own code for a body that breaks its schema. */
export function failureOf(error: unknown, invalidCode: ErrorCode): Failure {
  if (error instanceof AppError) return { code: error.code, message: error.message, details: detailsOf(error) };
  const { code, message, statusCode, validation } = (error ?? {}) as {
    code?: unknown;
    message?: unknown;
    statusCode?: unknown;
    validation?: unknown;
  };
  const text = typeof message === 'string' ? message : '';
  const known = typeof code === 'string' ? frameworkCodes[code] : undefined;
  if (validation) return plain(invalidCode, text);
  if (known) return plain(known, text);
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) return plain('invalid_request', text);
  if (isDatabaseGone(error, code))
    return plain('database_unavailable', 'the database does not answer; try again shortly');
  return plain('internal_error', 'the server failed; its log tells more under this request id');
}

function plain(code: ErrorCode, message: string): Failure {
  return { code, message, details: {} };
}

/** A lost or refused connection to PostgreSQL: node's codes carry a system call, PostgreSQL's a severity. */
function isDatabaseGone(error: unknown, code: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (connectionLost.test(error.message)) return true;
  const isFromSocket = 'syscall' in error && ['connect', 'read', 'write'].includes(String(error.syscall));
  return typeof code === 'string' && databaseGone.test(code) && (isFromSocket || 'severity' in error);
}
