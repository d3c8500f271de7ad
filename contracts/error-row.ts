/**
 * The closed set of `error.type` at the CI door. A type groups codes for display; clients branch on `code`.
 * `oauth_provider_error` and `passkey_already_registered` each serve one code, as clients of the wire know them.
 */
export const ciErrorTypes = [
  'invalid_request',
  'unauthorized',
  'billing',
  'forbidden',
  'not_found',
  'conflict',
  'unprocessable_entity',
  'validation_failed',
  'rate_limited',
  'server_error',
  'bad_gateway',
  'service_unavailable',
  'not_implemented',
  'oauth_provider_error',
  'passkey_already_registered',
] as const;
export type CiErrorType = (typeof ciErrorTypes)[number];

export interface ErrorRow {
  /** True when the same call may succeed later without any change. */
  readonly retryable: boolean;
  /** What happened and what to do about it, for the error pages. */
  readonly help: string;
  /** Status and `error.type` at the CI door; a code without it is answered there as `internal_error`. */
  readonly ci?: { readonly status: number; readonly type: CiErrorType };
}

/** A row that never leaves the machine it arose on, or leaves it only as the outcome of a job. */
export function internalRow(retryable: boolean, help: string): ErrorRow {
  return { retryable, help };
}

/** A row of the CI door that stays until the caller changes something. */
export function refusal(status: number, type: CiErrorType, help: string): ErrorRow {
  return { retryable: false, help, ci: { status, type } };
}

/** A row of the CI door that may go away by itself. */
export function trouble(status: number, type: CiErrorType, help: string): ErrorRow {
  return { retryable: true, help, ci: { status, type } };
}
