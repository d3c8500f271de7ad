import { AppError } from '@caisson/contracts/app-error';
import type { ErrorCode } from '@caisson/contracts/error-table';
import { databaseTrouble } from '../../store/database-trouble.ts';
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
  const trouble = databaseTrouble(error);
  if (trouble !== null) return plain('database_unavailable', `${trouble}; try again shortly`);
  return plain('internal_error', 'the server failed; its log tells more under this request id');
}

function plain(code: ErrorCode, message: string): Failure {
  return { code, message, details: {} };
}
