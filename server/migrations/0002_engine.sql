-- Deadlines are columns that a scan compares with the clock, so that none can be lost.

-- By then the present state of the job must be over: begun, ended, or its end confirmed.
alter table leases add column due_at timestamptz;
update leases
set due_at = case
    when cancel_reason is not null then now() + interval '1 minute'
    else acquired_at + interval '20 minutes'
  end
from jobs
where jobs.id = leases.job_id and leases.status = 'held' and jobs.status <> 'running';

alter table builds add column deadline_at timestamptz;
update builds set deadline_at = planned_at + timeout_ms * interval '1 millisecond' where finished_at is null;
create index builds_deadline on builds (deadline_at) where finished_at is null;

-- The output of the present attempt is what follows behind this number; earlier attempts stay readable.
alter table jobs add column log_start_seq bigint not null default 0;

-- Which states occur in a build, and who waits for a job, are asked at every change.
create index jobs_state on jobs (build_id, kind, status);
create index job_dependencies_needs on job_dependencies (needs_job_id);
create index layers_released on layers (host_id) where released_at is not null;
