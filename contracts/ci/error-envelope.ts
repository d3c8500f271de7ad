import type { CiErrorType, ErrorRow } from '../error-row.ts';
import { type ErrorCode, errorTable } from '../error-table.ts';

interface CiFailure {
  readonly code: ErrorCode;
  /** Shown to the user. */
  readonly message: string;
  /** Same as the `x-request-id` header. */
  readonly requestId: string;
  /** Where the pages of docs/ are served, without a slash at the end. */
  readonly docsBaseUrl: string;
}

interface CiErrorEnvelope {
  readonly error: {
    readonly type: CiErrorType;
    readonly code: ErrorCode;
    readonly message: string;
    readonly doc_url: string;
    readonly request_id: string;
  };
}

/** Status and body of a refusal at the CI door. A code that has no place there becomes `internal_error` without its message. */
export function ciErrorEnvelope(failure: CiFailure): { readonly status: number; readonly body: CiErrorEnvelope } {
  const { ci }: ErrorRow = errorTable[failure.code];
  if (!ci) {
    const message = 'The server failed; its log tells more under this request id.';
    return ciErrorEnvelope({ ...failure, code: 'internal_error', message });
  }
  const { code, message, requestId, docsBaseUrl } = failure;
  const doc_url = `${docsBaseUrl}/errors/${code}`;
  return { status: ci.status, body: { error: { type: ci.type, code, message, doc_url, request_id: requestId } } };
}
