import type { LayerKind } from '@caisson/contracts/host-api';
import type { BuildState } from '@caisson/core/build';
import type { JobState } from '@caisson/core/job';
import type { ColumnType, Generated } from 'kysely';

/** A column the database fills in when it is left out. */
type Time = ColumnType<Date, Date | string | undefined, Date | string>;
type NullableTime = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>;
type Json<T> = ColumnType<T, string | undefined, string>;
/** int8; the pool parses it to a number (`openDatabase`). */
type Int8 = number;

export interface UsersTable {
  id: string;
  email: string;
  name: string | null;
  created_at: Time;
}

export interface OrganizationsTable {
  id: string;
  slug: string;
  name: string;
  url: string | null;
  created_at: Time;
}

export interface MembersTable {
  organization_id: string;
  user_id: string;
  role: 'owner' | 'admin' | 'member';
  created_at: Time;
}

export interface TokensTable {
  id: string;
  user_id: string;
  kind: 'session' | 'personal';
  hash: string;
  description: string | null;
  created_at: Time;
  expires_at: NullableTime;
  last_used_at: NullableTime;
}

export interface PipelinesTable {
  id: string;
  organization_id: string;
  slug: string;
  name: string;
  repository: string;
  default_branch: string;
  repo_name: string | null;
  source_slug: string | null;
  description: string | null;
  visibility: Generated<'private' | 'public'>;
  allow_manual: Generated<boolean>;
  last_build_number: Generated<number>;
  archived_at: NullableTime;
  created_at: Time;
}

export type Trigger = 'webhook' | 'ui' | 'api' | 'trigger_job' | 'schedule';

export interface BuildsTable {
  id: string;
  organization_id: string;
  pipeline_id: string;
  number: number;
  status: BuildState;
  trigger: Trigger;
  branch: string | null;
  commit: string | null;
  message: string | null;
  env: Json<Record<string, string>>;
  source_digest: string | null;
  render_slug: string | null;
  stop_on_failure: Generated<boolean>;
  cancel_requested: Generated<boolean>;
  timed_out: Generated<boolean>;
  planned_at: NullableTime;
  timeout_ms: Int8 | null;
  deadline_at: NullableTime;
  error_code: string | null;
  error_message: string | null;
  created_by: string | null;
  created_at: Time;
  scheduled_at: NullableTime;
  started_at: NullableTime;
  finished_at: NullableTime;
}

export interface JobsTable {
  id: string;
  organization_id: string;
  build_id: string;
  kind: 'step' | 'render';
  position: number;
  step_key: string;
  name: string | null;
  status: JobState;
  command: string;
  image: string | null;
  env: Json<Record<string, string>>;
  timeout_ms: Int8 | null;
  builds_in: string | null;
  is_parent: Generated<boolean>;
  snapshot: 'memory' | null;
  needs_memory_snapshots: Generated<boolean>;
  cache_key: string | null;
  runner: string | null;
  runner_args: Json<unknown>;
  attempt: Generated<number>;
  lease_id: string | null;
  layer_id: string | null;
  log_start_seq: Generated<Int8>;
  exit_code: number | null;
  error_code: string | null;
  error_message: string | null;
  created_at: Time;
  scheduled_at: NullableTime;
  started_at: NullableTime;
  finished_at: NullableTime;
}

export interface JobDependenciesTable {
  build_id: string;
  job_id: string;
  needs_job_id: string;
}

export interface HostsTable {
  id: string;
  name: string;
  driver: string;
  runtime: string;
  memory_snapshots: boolean;
  cpus: number;
  memory_bytes: Int8;
  disk_bytes: Int8;
  refuses: string | null;
  last_seen_at: NullableTime;
  created_at: Time;
}

export interface CapsulesTable {
  id: string;
  organization_id: string;
  host_id: string;
  owner_kind: 'job';
  owner_id: string;
  status: 'creating' | 'running' | 'stopping' | 'stopped' | 'lost';
  cpus: number;
  memory_bytes: Int8;
  disk_bytes: Int8;
  created_at: Time;
  started_at: NullableTime;
  ended_at: NullableTime;
}

export interface LeasesTable {
  id: string;
  fence: Generated<Int8>;
  host_id: string;
  job_id: string;
  capsule_id: string;
  status: Generated<'held' | 'done' | 'lost'>;
  dispatched_at: NullableTime;
  acknowledged_seq: Generated<Int8>;
  cancel_reason: 'canceled' | 'timed_out' | 'lost' | null;
  acquired_at: Time;
  expires_at: Time;
  due_at: NullableTime;
  released_at: NullableTime;
}

export interface LayersTable {
  id: string;
  organization_id: string;
  host_id: string;
  build_id: string;
  job_id: string;
  released_at: NullableTime;
  created_at: Time;
}

export interface LayerCopiesTable {
  layer_id: string;
  host_id: string;
  arrived_at: NullableTime;
  refused_at: NullableTime;
}

export interface LayerBlobsTable {
  copy_id: string;
  kind: LayerKind;
  driver: 'container' | 'microvm';
  below: string[];
  digest: string;
  size_bytes: Int8;
  used_at: Time;
}

export interface LogChunksTable {
  job_id: string;
  seq: Int8;
  stream: 0 | 1 | 2;
  content: Buffer;
  at: Time;
}

export interface JobLogsTable {
  job_id: string;
  last_seq: Generated<Int8>;
  size_bytes: Generated<Int8>;
}

export interface EventsTable {
  id: Generated<Int8>;
  organization_id: string;
  kind: string;
  subject: string;
  payload: Json<Record<string, unknown>>;
  at: Time;
}

export interface SourcesTable {
  organization_id: string;
  digest: string;
  size_bytes: Int8;
  created_at: Time;
}

export interface InstallationTable {
  singleton: Generated<boolean>;
  log_token_secret: string;
  runner_token_secret: string;
  created_at: Time;
}

export interface WatchTable {
  singleton: Generated<boolean>;
  looked_at: Time;
}

/** Every table of the control plane; columns are described in `migrations/`. */
export interface Schema {
  users: UsersTable;
  organizations: OrganizationsTable;
  members: MembersTable;
  tokens: TokensTable;
  pipelines: PipelinesTable;
  builds: BuildsTable;
  jobs: JobsTable;
  job_dependencies: JobDependenciesTable;
  hosts: HostsTable;
  capsules: CapsulesTable;
  leases: LeasesTable;
  layers: LayersTable;
  layer_copies: LayerCopiesTable;
  layer_blobs: LayerBlobsTable;
  log_chunks: LogChunksTable;
  job_logs: JobLogsTable;
  events: EventsTable;
  sources: SourcesTable;
  installation: InstallationTable;
  watch: WatchTable;
}
