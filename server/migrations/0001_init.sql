-- People and what they may do -------------------------------------------------------------------------------------------------

create table users (
  id uuid primary key,
  email text not null unique check (email = lower(email)),
  name text,
  created_at timestamptz not null default now()
);

create table organizations (
  id uuid primary key,
  slug text not null unique,
  name text not null,
  url text,
  created_at timestamptz not null default now()
);

create table members (
  organization_id uuid not null references organizations on delete cascade,
  user_id uuid not null references users on delete cascade,
  role text not null check (role in ('owner', 'admin', 'member')),
  created_at timestamptz not null default now(),
  primary key (organization_id, user_id)
);
create index members_user on members (user_id);

-- `hash` is the lower-hex sha256 of the whole token; the token itself is never stored.
create table tokens (
  id uuid primary key,
  user_id uuid not null references users on delete cascade,
  kind text not null check (kind in ('session', 'personal')),
  hash text not null unique,
  description text,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz
);
create index tokens_user on tokens (user_id, kind);

-- What runs -------------------------------------------------------------------------------------------------------------------

create table pipelines (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  slug text not null,
  name text not null,
  repository text not null,
  default_branch text not null,
  repo_name text,
  -- The slug inside the repository, for pipelines found there.
  source_slug text,
  description text,
  visibility text not null default 'private' check (visibility in ('private', 'public')),
  allow_manual boolean not null default true,
  last_build_number integer not null default 0,
  archived_at timestamptz,
  created_at timestamptz not null default now(),
  unique (organization_id, slug)
);

create table builds (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  pipeline_id uuid not null references pipelines on delete cascade,
  number integer not null,
  status text not null check (status in ('scheduled', 'running', 'failing', 'passed', 'failed', 'canceling', 'canceled')),
  trigger text not null check (trigger in ('webhook', 'ui', 'api', 'trigger_job', 'schedule')),
  branch text,
  commit text,
  message text,
  env jsonb not null default '{}',
  source_digest text,
  -- Which pipeline of the source to render; null once the graph is known or was given.
  render_slug text,
  stop_on_failure boolean not null default false,
  cancel_requested boolean not null default false,
  timed_out boolean not null default false,
  -- Null until the graph is known; then the jobs of kind 'step' are complete.
  planned_at timestamptz,
  timeout_ms bigint,
  error_code text,
  error_message text,
  created_by uuid references users on delete set null,
  created_at timestamptz not null default now(),
  scheduled_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  unique (pipeline_id, number),
  check ((status in ('passed', 'failed', 'canceled')) = (finished_at is not null))
);
create index builds_open on builds (id) where finished_at is null;
create index builds_page on builds (pipeline_id, created_at desc, id desc);

create table jobs (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  build_id uuid not null references builds on delete cascade,
  kind text not null check (kind in ('step', 'render')),
  -- Place in topological order.
  position integer not null,
  step_key text not null,
  name text,
  status text not null check (status in ('pending', 'scheduled', 'assigned', 'running', 'passed', 'failed', 'skipped', 'canceling',
    'canceled', 'timing_out', 'timed_out')),
  command text not null,
  image text,
  env jsonb not null default '{}',
  timeout_ms bigint,
  -- The job whose disk this one starts from.
  builds_in uuid references jobs on delete cascade,
  -- Whether some job starts from this one's disk.
  is_parent boolean not null default false,
  cache_key text,
  runner text,
  runner_args jsonb,
  attempt integer not null default 0,
  -- The lease under which it runs now; null before assignment and after the end.
  lease_id uuid,
  -- The sealed disk, once passed; see layers.
  layer_id uuid,
  exit_code integer,
  error_code text,
  error_message text,
  created_at timestamptz not null default now(),
  scheduled_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  unique (build_id, kind, step_key),
  check ((status in ('passed', 'failed', 'skipped', 'canceled', 'timed_out')) = (finished_at is not null))
);
create index jobs_build on jobs (build_id, position);
create index jobs_waiting on jobs (scheduled_at, id) where status = 'scheduled';

create table job_dependencies (
  build_id uuid not null references builds on delete cascade,
  job_id uuid not null references jobs on delete cascade,
  needs_job_id uuid not null references jobs on delete cascade,
  primary key (job_id, needs_job_id),
  check (job_id <> needs_job_id)
);
create index job_dependencies_build on job_dependencies (build_id);

-- Where it runs ---------------------------------------------------------------------------------------------------------------

create table hosts (
  id uuid primary key,
  name text not null,
  driver text not null,
  runtime text not null,
  memory_snapshots boolean not null,
  cpus double precision not null,
  memory_bytes bigint not null,
  disk_bytes bigint not null,
  last_seen_at timestamptz,
  created_at timestamptz not null default now()
);

-- One isolated machine, whoever owns it (a job, a render, later an API user or an environment).
create table capsules (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  host_id uuid not null references hosts,
  owner_kind text not null check (owner_kind in ('job')),
  owner_id uuid not null,
  status text not null check (status in ('creating', 'running', 'stopping', 'stopped', 'lost')),
  cpus double precision not null,
  memory_bytes bigint not null,
  disk_bytes bigint not null,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  ended_at timestamptz,
  check ((status in ('stopped', 'lost')) = (ended_at is not null))
);
create index capsules_owner on capsules (owner_kind, owner_id);
create index capsules_live on capsules (host_id) where ended_at is null;

-- Work that runs for long on a host. The fence grows over all leases, so an old holder is recognised by its smaller number.
create table leases (
  id uuid primary key,
  fence bigserial not null unique,
  host_id uuid not null references hosts,
  job_id uuid not null references jobs on delete cascade,
  capsule_id uuid not null references capsules,
  status text not null default 'held' check (status in ('held', 'done', 'lost')),
  -- The host confirmed that it holds the assignment.
  dispatched_at timestamptz,
  -- Everything up to this message of the host is stored.
  acknowledged_seq bigint not null default 0,
  -- What the host shall be told: stop, and why.
  cancel_reason text check (cancel_reason in ('canceled', 'timed_out', 'lost')),
  acquired_at timestamptz not null default now(),
  expires_at timestamptz not null,
  released_at timestamptz
);
create index leases_held on leases (host_id) where status = 'held';
create unique index leases_one_per_job on leases (job_id) where status = 'held';
alter table jobs add foreign key (lease_id) references leases deferrable initially deferred;

-- A sealed disk on a host.
create table layers (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  host_id uuid not null references hosts,
  build_id uuid not null references builds on delete cascade,
  job_id uuid not null references jobs on delete cascade,
  released_at timestamptz,
  created_at timestamptz not null default now()
);
create index layers_build on layers (build_id) where released_at is null;

-- What was said and what happened -----------------------------------------------------------------------------------------------

-- Raw bytes; seq starts at 1 per job and has no gaps over all attempts.
create table log_chunks (
  job_id uuid not null references jobs on delete cascade,
  seq bigint not null,
  stream smallint not null check (stream in (0, 1, 2)),
  content bytea not null,
  at timestamptz not null,
  primary key (job_id, seq)
);

create table job_logs (
  job_id uuid primary key references jobs on delete cascade,
  last_seq bigint not null default 0,
  size_bytes bigint not null default 0
);

create table events (
  id bigserial primary key,
  organization_id uuid not null references organizations on delete cascade,
  kind text not null,
  subject uuid not null,
  payload jsonb not null,
  at timestamptz not null default now()
);
create index events_organization on events (organization_id, id);
create index events_subject on events (subject, id);

-- Archives an organization has uploaded; the bytes are in the blob store under their digest.
create table sources (
  organization_id uuid not null references organizations on delete cascade,
  digest text not null check (digest ~ '^[0-9a-f]{64}$'),
  size_bytes bigint not null,
  created_at timestamptz not null default now(),
  primary key (organization_id, digest)
);

-- Secrets made at first start (hex), shared by every control plane on this database.
create table installation (
  singleton boolean primary key default true check (singleton),
  log_token_secret text not null,
  runner_token_secret text not null,
  created_at timestamptz not null default now()
);

-- When some control plane last looked at the leases: a host's silence counts only while somebody listened.
create table watch (
  singleton boolean primary key default true check (singleton),
  looked_at timestamptz not null
);
insert into watch (looked_at) values (now());
