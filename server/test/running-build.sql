-- A build in the middle, as version 0001 of the tables kept it: its first job has passed and left a disk, the second one runs on a
-- host and has said something, the third one waits for the second.
insert into organizations (id, slug, name) values ('00000000-0000-7000-8000-000000000001', 'local', 'Local');
insert into pipelines (id, organization_id, slug, name, repository, default_branch, repo_name, source_slug, last_build_number)
values ('00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000001', 'ci', 'ci',
  'https://example.test/a/b.git', 'main', 'a/b', 'ci', 1);
insert into hosts (id, name, driver, runtime, memory_snapshots, cpus, memory_bytes, disk_bytes, last_seen_at)
values ('00000000-0000-7000-8000-000000000003', 'one', 'container', 'scripted', false, 8, 68719476736, 1099511627776, now());
insert into builds (id, organization_id, pipeline_id, number, status, trigger, planned_at, timeout_ms, scheduled_at, started_at)
values ('00000000-0000-7000-8000-000000000004', '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002', 1,
  'running', 'api', now(), 600000, now(), now());
insert into jobs (id, organization_id, build_id, kind, position, step_key, status, command, builds_in, is_parent, attempt, exit_code,
  scheduled_at, started_at, finished_at)
select ('00000000-0000-7000-8000-00000000001' || n)::uuid, '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000004',
  'step', n, key, status, key, nullif('00000000-0000-7000-8000-00000000001' || (n - 1), '00000000-0000-7000-8000-000000000010')::uuid,
  n < 3, attempt, case when finished then 0 end, case when attempt > 0 then now() end, case when attempt > 0 then now() end,
  case when finished then now() end
from (values (1, 'install', 'passed', 1, true), (2, 'test', 'running', 1, false), (3, 'last', 'pending', 0, false))
  as v (n, key, status, attempt, finished);
insert into job_dependencies (build_id, job_id, needs_job_id)
select build_id, id, builds_in from jobs where builds_in is not null;
insert into capsules (id, organization_id, host_id, owner_kind, owner_id, status, cpus, memory_bytes, disk_bytes, started_at, ended_at)
values
  ('00000000-0000-7000-8000-000000000021', '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000003', 'job',
    '00000000-0000-7000-8000-000000000011', 'stopped', 1, 1073741824, 1073741824, now(), now()),
  ('00000000-0000-7000-8000-000000000022', '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000003', 'job',
    '00000000-0000-7000-8000-000000000012', 'running', 1, 1073741824, 1073741824, now(), null);
insert into leases (id, host_id, job_id, capsule_id, status, dispatched_at, acknowledged_seq, expires_at, released_at)
values
  ('00000000-0000-7000-8000-000000000031', '00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000011',
    '00000000-0000-7000-8000-000000000021', 'done', now(), 2, now(), now()),
  ('00000000-0000-7000-8000-000000000032', '00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000012',
    '00000000-0000-7000-8000-000000000022', 'held', now(), 2, now() + interval '15 seconds', null);
insert into layers (id, organization_id, host_id, build_id, job_id)
values ('00000000-0000-7000-8000-000000000031', '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000003',
  '00000000-0000-7000-8000-000000000004', '00000000-0000-7000-8000-000000000011');
update jobs set layer_id = '00000000-0000-7000-8000-000000000031' where step_key = 'install';
update jobs set lease_id = '00000000-0000-7000-8000-000000000032' where step_key = 'test';
insert into log_chunks (job_id, seq, stream, content, at)
values ('00000000-0000-7000-8000-000000000012', 1, 0, convert_to('before' || chr(10), 'UTF8'), now());
insert into job_logs (job_id, last_seq, size_bytes) values ('00000000-0000-7000-8000-000000000012', 1, 7);
