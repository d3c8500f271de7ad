import type { BuildState } from '@caisson/core/build';
import type { JobState } from '@caisson/core/job';
import type { SqlSession } from './sql-session.ts';

/** What the tables say, kept up by what each commit has changed. Times are milliseconds since the epoch. */
export interface Ledger {
  readonly builds: Map<string, BuildEntry>;
  readonly jobs: Map<string, JobEntry>;
  readonly leases: Map<string, LeaseEntry>;
  readonly logs: Map<string, LogEntry>;
  /** Per job, those it needs. */
  readonly needs: Map<string, string[]>;
  /** Those of released disks vanish again. */
  layers: readonly LayerEntry[];
  /** By the last event of each subject. */
  readonly told: Map<string, EventEntry>;
  /** How often a job was given back by a host that could not begin it. */
  readonly refusals: Map<string, number>;
}

export interface BuildEntry {
  readonly id: string;
  readonly number: number;
  readonly name: string;
  readonly status: BuildState;
  readonly planned: number | null;
  readonly stops: boolean;
  readonly started: number | null;
  readonly finished: number | null;
  readonly error: string | null;
}
export interface JobEntry {
  readonly id: string;
  readonly build: string;
  readonly key: string;
  readonly kind: 'step' | 'render';
  /** The job whose disk it starts from. */
  readonly parent: string | null;
  /** What is kept of it. */
  readonly snapshot: 'disk' | 'memory' | null;
  readonly status: JobState;
  readonly attempt: number;
  readonly lease: string | null;
  readonly layer: string | null;
  readonly exit: number | null;
  readonly error: string | null;
  readonly scheduled: number | null;
  readonly started: number | null;
  readonly finished: number | null;
}
/** A lease with its capsule. */
export interface LeaseEntry {
  readonly id: string;
  readonly fence: number;
  readonly host: string;
  readonly job: string;
  readonly capsule: string;
  readonly status: 'held' | 'done' | 'lost';
  readonly seq: number;
  readonly acquired: number;
  readonly released: number | null;
  readonly capsuleStatus: string;
  readonly capsuleStarted: number | null;
  readonly capsuleEnded: number | null;
  readonly cpus: number;
}
export interface LogEntry {
  readonly job: string;
  readonly last: number;
  readonly chunks: number;
  /** Those that a run wrote; the others are the control plane's own lines. */
  readonly output: number;
}
export interface LayerEntry {
  readonly id: string;
  readonly host: string;
  readonly build: string;
  readonly released: boolean;
}
export interface EventEntry {
  readonly id: number;
  readonly kind: string;
  readonly subject: string;
  readonly cause: string;
}

/** Rows written since the last look. */
export interface Changes {
  readonly builds: readonly BuildEntry[];
  readonly jobs: readonly JobEntry[];
  readonly leases: readonly LeaseEntry[];
  readonly logs: readonly LogEntry[];
  readonly needs: readonly { readonly job: string; readonly needed: string }[];
  readonly layers: readonly LayerEntry[];
  readonly events: readonly EventEntry[];
  readonly counts: { readonly builds: number; readonly jobs: number; readonly leases: number };
}

export function emptyLedger(): Ledger {
  return {
    ...{ builds: new Map(), jobs: new Map(), leases: new Map(), logs: new Map(), needs: new Map() },
    ...{ layers: [], told: new Map(), refusals: new Map() },
  };
}

/** Reads what was written since the last call. PostgreSQL marks each row with the transaction that wrote it. */
export interface LedgerReader {
  read(): Promise<Changes>;
}

const ms = (column: string): string => `(extract(epoch from ${column}) * 1000)::float8`;
const isNew = (table: string): string => `${table}.xmin::text::bigint >= $1`;
const list = (rows: string): string => `(select coalesce(json_agg(r), '[]') from (${rows}) r)`;

const query = `select
  pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next,
  ${list(`select id, number, message as name, status, ${ms('planned_at')} as planned, stop_on_failure as stops,
    ${ms('started_at')} as started, ${ms('finished_at')} as finished, error_code as error
    from builds where ${isNew('builds')}`)} as builds,
  ${list(`select id, build_id as build, step_key as key, kind, builds_in as parent, snapshot, status, attempt, lease_id as lease, layer_id as layer,
    exit_code as exit, error_code as error, ${ms('scheduled_at')} as scheduled, ${ms('started_at')} as started,
    ${ms('finished_at')} as finished from jobs where ${isNew('jobs')} order by position`)} as jobs,
  ${list(`select l.id, l.fence, l.host_id as host, l.job_id as job, l.capsule_id as capsule, l.status,
    l.acknowledged_seq as seq, ${ms('l.acquired_at')} as acquired, ${ms('l.released_at')} as released,
    c.status as "capsuleStatus", ${ms('c.started_at')} as "capsuleStarted", ${ms('c.ended_at')} as "capsuleEnded", c.cpus
    from leases l join capsules c on c.id = l.capsule_id where ${isNew('l')} or ${isNew('c')} order by l.fence`)} as leases,
  ${list(`select l.job_id as job, l.last_seq as last, count(*) as chunks, count(*) filter (where c.stream <> 2) as output
    from job_logs l left join log_chunks c on c.job_id = l.job_id where ${isNew('l')} group by l.job_id`)} as logs,
  ${list(`select job_id as job, needs_job_id as needed from job_dependencies where ${isNew('job_dependencies')}`)} as needs,
  ${list(`select id, host_id as host, build_id as build, released_at is not null as released from layers`)} as layers,
  ${list(`select id, kind, subject, payload->>'cause' as cause from events where id > $2 order by id`)} as events,
  json_build_object('builds', (select count(*) from builds), 'jobs', (select count(*) from jobs),
    'leases', (select count(*) from leases)) as counts`;

export function openLedgerReader(session: SqlSession): LedgerReader {
  let next = 0;
  let lastEvent = 0;
  return {
    async read() {
      const { rows } = await session.query(query, [next, lastEvent]);
      const [row] = rows as [Changes & { readonly next: number }];
      next = row.next;
      lastEvent = row.events.at(-1)?.id ?? lastEvent;
      return row;
    },
  };
}

/** Takes the changes over. */
export function enter(ledger: Ledger, changes: Changes): void {
  for (const build of changes.builds) ledger.builds.set(build.id, build);
  for (const job of changes.jobs) ledger.jobs.set(job.id, job);
  for (const lease of changes.leases) ledger.leases.set(lease.id, lease);
  for (const log of changes.logs) ledger.logs.set(log.job, log);
  for (const { job, needed } of changes.needs) ledger.needs.set(job, [...(ledger.needs.get(job) ?? []), needed]);
  for (const event of changes.events) ledger.told.set(event.subject, event);
  for (const { subject } of refusalsOf(changes)) countRefusal(ledger.refusals, subject);
  ledger.layers = changes.layers;
}

/** Events of jobs that were given back. */
export function refusalsOf({ events }: Changes): readonly EventEntry[] {
  return events.filter(({ kind, cause }) => kind === 'job.scheduled' && cause === 'refused');
}

export function countRefusal(refusals: Map<string, number>, jobId: string): void {
  refusals.set(jobId, (refusals.get(jobId) ?? 0) + 1);
}
