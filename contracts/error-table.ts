import type { ErrorRow } from './error-row.ts';
import { internalRow, refusal, trouble } from './error-row.ts';

/** Every code an `AppError` can carry. `ci` is its status and `type` at the CI door. */
export const errorTable = {
  // the host's own
  blob_digest_mismatch: internalRow(
    false,
    'An archive does not hash to its digest: it was cut short or altered. Upload it again.',
  ),
  source_invalid: refusal(
    422,
    'validation_failed',
    'The source archive is not a gzipped tar, is cut short, or holds an entry that leaves its directory. Pack it again.',
  ),
  image_unavailable: internalRow(
    false,
    'The image cannot be had: unknown name, no such tag, or no way to its registry. Check the name or add an alias in the configuration.',
  ),
  image_invalid: internalRow(
    false,
    'The image was fetched but is not a root filesystem for this machine. Use an image for this architecture.',
  ),
  provision_failed: internalRow(
    true,
    'The capsule could not be set up. The message names the step; `caisson doctor` shows what the machine lacks.',
  ),
  snapshot_missing: internalRow(
    false,
    'The snapshot a capsule should start from has been deleted. Run the build again from its root.',
  ),
  snapshot_failed: internalRow(
    true,
    'The disk of a finished job could not be kept. Look at the free space of the host.',
  ),
  tools_unavailable: internalRow(
    false,
    'The read-only tools a render needs are missing on the host. Run the setup again.',
  ),
  runtime_unavailable: internalRow(
    false,
    'No runtime works on this machine. `caisson doctor` lists what was tried and how to fix it.',
  ),
  disk_full: trouble(
    503,
    'service_unavailable',
    'A disk of this installation is full. Try again when its operator has made room.',
  ),
  sandbox_lost: internalRow(true, 'The capsule ended underneath its job. Run the job again.'),
  out_of_memory: internalRow(false, 'The job used more memory than its capsule has. Give it a larger shape.'),
  guest_lost: internalRow(true, 'The connection to the agent inside a capsule ended and could not be taken up again.'),
  guest_protocol: internalRow(
    false,
    'The agent inside a capsule sent something outside of its protocol; the connection was closed.',
  ),
  // answers of the guest agent to one call; `not_found` also means an unknown route
  not_found: refusal(
    404,
    'not_found',
    'Nothing is served at this method and path. Compare the path with the API table.',
  ),
  already_exists: internalRow(false, 'Something with this name exists already in the capsule.'),
  not_a_directory: internalRow(false, 'A part of the path is not a directory.'),
  permission_denied: internalRow(false, 'The user inside the capsule may not do this.'),
  invalid_argument: internalRow(false, 'The agent inside the capsule refused an argument.'),
  io_error: internalRow(false, 'Reading or writing failed inside the capsule.'),
  limit_exceeded: internalRow(true, 'The capsule is at one of its limits. Try again when something in it has ended.'),
  // the control plane
  invalid_config: internalRow(false, 'A setting is missing or malformed. The message names it.'),
  database_too_new: internalRow(false, 'A newer version has migrated the database. Start that version.'),
  database_unavailable: trouble(503, 'service_unavailable', 'The database does not answer. Try again shortly.'),
  // any operation of a door
  internal_error: trouble(
    500,
    'server_error',
    'The server failed. Give the request id to whoever runs it: the log holds the cause.',
  ),
  service_unavailable: trouble(
    503,
    'service_unavailable',
    'The server is starting, draining or has lost its database. Try again shortly.',
  ),
  not_implemented: refusal(
    501,
    'not_implemented',
    'The operation is part of the contract but this version does not carry it out.',
  ),
  invalid_request: refusal(
    400,
    'invalid_request',
    'The request is not what the contract asks for. The message names the field.',
  ),
  invalid_cursor: refusal(
    400,
    'invalid_request',
    'The `cursor` did not come from an earlier page of this list. Start again without it.',
  ),
  method_not_allowed: refusal(
    405,
    'invalid_request',
    'The path exists, but not with this method. The `allow` header lists the methods.',
  ),
  payload_too_large: refusal(
    413,
    'invalid_request',
    'The body is over the limit. Upload sources with `uploadSource` and name them by digest.',
  ),
  unsupported_media_type: refusal(
    415,
    'invalid_request',
    'The body has a content type this operation does not take; most take `application/json`.',
  ),
  rate_limited: trouble(429, 'rate_limited', 'Too many requests. Wait for as long as `retry-after` says.'),
  unauthorized: refusal(
    401,
    'unauthorized',
    'The token is missing, unknown, revoked or expired. Send `Authorization: Bearer <token>`.',
  ),
  // signing in
  signup_cap_reached: refusal(
    503,
    'service_unavailable',
    'This installation takes no further accounts. Ask its operator.',
  ),
  signup_failed: trouble(
    500,
    'server_error',
    'The account could not be created. Try again; if it stays, give the request id to the operator.',
  ),
  oauth_provider_error: trouble(
    502,
    'oauth_provider_error',
    'The identity provider refused or did not answer. Start the sign-in again.',
  ),
  cli_code_invalid: refusal(400, 'invalid_request', 'The sign-in code is wrong, used, expired, or not confirmed yet.'),
  email_unconfigured: refusal(
    500,
    'server_error',
    'This installation cannot send mail. Its operator has to configure a mail server.',
  ),
  passkey_email_send_failed: trouble(500, 'server_error', 'The mail could not be sent. Try again later.'),
  passkey_assertion_failed: refusal(
    400,
    'invalid_request',
    'The passkey answer did not verify. Start the sign-in again.',
  ),
  passkey_challenge_invalid: refusal(
    400,
    'invalid_request',
    'The challenge is unknown, used or expired. Ask for new options.',
  ),
  passkey_registration_failed: refusal(
    400,
    'invalid_request',
    'The new passkey did not verify. Ask for new options and try again.',
  ),
  passkey_token_invalid: refusal(400, 'invalid_request', 'The link is unknown, used or expired. Ask for a new mail.'),
  passkey_unknown_credential: refusal(
    400,
    'invalid_request',
    'No account knows this passkey. Use another one or recover the account.',
  ),
  passkey_user_verification_required: refusal(
    400,
    'invalid_request',
    'The authenticator must check the user (PIN, fingerprint, face).',
  ),
  passkey_already_registered: refusal(409, 'passkey_already_registered', 'This passkey is registered already.'),
  passkey_signup_email_taken: refusal(
    409,
    'conflict',
    'An account with this e-mail exists. Sign in, or recover the account.',
  ),
  passkey_last_credential: refusal(
    409,
    'conflict',
    'The only passkey of an account cannot be deleted. Register another one first.',
  ),
  passkey_not_found: refusal(404, 'not_found', 'You have no passkey with this id.'),
  // the user
  user_name_invalid: refusal(422, 'invalid_request', 'A name has 1 to 255 characters and is not blank.'),
  account_has_billing_history: refusal(
    409,
    'conflict',
    'An account with payments or coupons cannot be deleted. Ask the operator.',
  ),
  api_token_not_found: refusal(404, 'not_found', 'You have no personal token with this id.'),
  // organizations
  organization_not_found: refusal(
    404,
    'not_found',
    'There is no organization with this slug, or you are not a member.',
  ),
  organization_invalid: refusal(
    422,
    'unprocessable_entity',
    'The organization lacks a usable name. The message names the field.',
  ),
  member_not_found: refusal(404, 'not_found', 'The organization has no member with this id.'),
  insufficient_org_role: refusal(
    403,
    'forbidden',
    'Your role does not allow this. Ask an admin or owner of the organization.',
  ),
  last_owner: refusal(409, 'conflict', 'An organization keeps at least one owner. Make somebody else owner first.'),
  invalid_role: refusal(422, 'unprocessable_entity', 'A role is `owner`, `admin` or `member`.'),
  invite_not_found: refusal(404, 'not_found', 'The organization has no pending invite with this id.'),
  invite_invalid: refusal(
    422,
    'unprocessable_entity',
    'The invite lacks a usable e-mail or role, or one for this e-mail is pending.',
  ),
  invite_unacceptable: refusal(
    422,
    'unprocessable_entity',
    'The invite is unknown, used, expired, or made out to another e-mail.',
  ),
  // pipelines and builds
  pipeline_not_found: refusal(
    404,
    'not_found',
    'The organization has no pipeline with this slug, or none for this repository and source slug.',
  ),
  pipeline_slug_taken: refusal(422, 'validation_failed', 'A pipeline with the same slug exists. Choose another name.'),
  pipeline_invalid: refusal(422, 'validation_failed', 'The pipeline is not acceptable. The message names the field.'),
  pipeline_manual_disabled: refusal(403, 'forbidden', 'This pipeline is started by its triggers only.'),
  build_not_found: refusal(404, 'not_found', 'The pipeline has no build with this number.'),
  build_invalid: refusal(422, 'validation_failed', 'The build request is not acceptable. The message names the field.'),
  build_queue_full: trouble(
    429,
    'rate_limited',
    'The organization has as many unfinished builds as it may have. Wait until some are over, or cancel some.',
  ),
  build_plan_rejected: refusal(
    422,
    'validation_failed',
    'The pipeline could not be rendered or planned. The build keeps the reason in `error_code` and `error_message`.',
  ),
  job_not_found: refusal(404, 'not_found', 'The build has no job with this id.'),
  source_not_found: refusal(404, 'not_found', 'No source is stored for this build, or under this digest.'),
  log_stream_unauthorized: refusal(
    401,
    'unauthorized',
    'The log token is missing, malformed or expired. Ask for a new one with `getBuildLogToken`.',
  ),
  log_stream_forbidden: refusal(403, 'forbidden', 'The log token belongs to another build than this job.'),
  // billing
  billing_insufficient_balance: refusal(
    402,
    'billing',
    'The balance is used up. Add credit, then start the build again.',
  ),
  billing_provider_error: trouble(
    502,
    'server_error',
    'The payment provider refused or did not answer. Try again later.',
  ),
  billing_unconfigured: refusal(503, 'server_error', 'This installation takes no payments.'),
  billing_usage_window_invalid: refusal(
    422,
    'validation_failed',
    '`from` and `to` are ISO dates or times, `from` before `to`.',
  ),
  invalid_amount: refusal(422, 'validation_failed', 'The amount is a whole number of cents from 100 to 1000000.'),
  coupon_not_found: refusal(404, 'not_found', 'No coupon has this code.'),
  coupon_already_claimed: refusal(409, 'conflict', 'The organization has redeemed this coupon already.'),
  coupon_expired: refusal(422, 'validation_failed', 'The coupon is past its date.'),
  coupon_exhausted: refusal(422, 'validation_failed', 'The coupon was redeemed as often as it may be.'),
  stripe_signature_invalid: refusal(
    400,
    'validation_failed',
    'The event is not signed with the webhook secret of this installation.',
  ),
  // code hosts
  github_not_configured: refusal(
    503,
    'service_unavailable',
    'This installation has no GitHub app. Its operator has to configure one.',
  ),
  github_sync_failed: trouble(503, 'service_unavailable', 'GitHub did not answer as expected. Try again later.'),
  github_installation_not_found: refusal(
    404,
    'not_found',
    'The organization is not connected to this GitHub installation.',
  ),
  github_installation_id_invalid: refusal(
    422,
    'validation_failed',
    'The id is not that of an installation of our GitHub app.',
  ),
  github_installation_bound_elsewhere: refusal(
    409,
    'conflict',
    'Another organization is connected to this GitHub installation.',
  ),
  bitbucket_not_configured: refusal(
    503,
    'service_unavailable',
    'This installation has no Bitbucket client. Its operator has to configure one.',
  ),
  bitbucket_invalid_state: refusal(
    403,
    'forbidden',
    'The sign-in at Bitbucket was not started here or took too long. Start again.',
  ),
  bitbucket_connect_failed: trouble(502, 'bad_gateway', 'Bitbucket refused or did not answer. Start again.'),
  bitbucket_installation_bound_elsewhere: refusal(
    409,
    'conflict',
    'Another organization is connected to this Bitbucket workspace.',
  ),
  bitbucket_workspace_not_found: refusal(
    404,
    'not_found',
    'The organization is not connected to this Bitbucket workspace.',
  ),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

/** Whether some text is a code of this table. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorTable, value);
}
