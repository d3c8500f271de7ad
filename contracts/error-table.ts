/** Every code an `AppError` can carry. `ci` is its status and `type` at the CI door; codes without one never leave the host. */
export const errorTable = {
  // the host's own
  blob_digest_mismatch: { retryable: false },
  source_invalid: { retryable: false },
  image_unavailable: { retryable: false },
  image_invalid: { retryable: false },
  provision_failed: { retryable: true },
  snapshot_missing: { retryable: false },
  snapshot_failed: { retryable: true },
  tools_unavailable: { retryable: false },
  runtime_unavailable: { retryable: false },
  disk_full: { retryable: true },
  guest_lost: { retryable: true },
  guest_protocol: { retryable: false },
  // answers of the guest agent to one call
  not_found: { retryable: false },
  already_exists: { retryable: false },
  not_a_directory: { retryable: false },
  permission_denied: { retryable: false },
  invalid_argument: { retryable: false },
  io_error: { retryable: false },
  limit_exceeded: { retryable: true },
  // the control plane
  invalid_config: { retryable: false },
  database_too_new: { retryable: false },
  database_unavailable: { retryable: true },
  // the doors
  internal_error: { retryable: true, ci: { status: 500, type: 'server_error' } },
  not_implemented: { retryable: false, ci: { status: 501, type: 'not_implemented' } },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

export interface ErrorRow {
  readonly retryable: boolean;
  readonly ci?: { readonly status: number; readonly type: string };
}
