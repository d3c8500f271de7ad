import type { CapsuleShape, RunAssignment } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import type { Database } from '../store/database.ts';
import type { WantedLayer } from './bring-layer.ts';

/** What an installation gives to every run. */
export interface RunDefaults {
  readonly shape: CapsuleShape;
  /** Image of a root that names none. */
  readonly image: string;
  readonly jobTimeoutMs: number;
  readonly renderTimeoutMs: number;
  readonly graceMs: number;
  readonly maxOutputBytes: number;
  /** How long a job waits for a host that has its disk before the disk is brought to another one. */
  readonly copyAfterMs: number;
}

/** What a host is to be given. */
export interface Handover {
  /** The same for the same lease, always. */
  readonly assignment: RunAssignment;
  /** The disk it starts from, when the host did not make it. */
  readonly wantedLayer: WantedLayer | null;
}

/** What is to be handed over for these leases, those that are still held. */
export async function loadHandovers(
  db: Database,
  leaseIds: readonly string[],
  defaults: RunDefaults,
): Promise<readonly Handover[]> {
  const rows = await loadRows(db, leaseIds);
  return rows.map((row) => ({ assignment: assignmentOf(row, defaults), wantedLayer: wantedLayerOf(row) }));
}

function wantedLayerOf({ copied_layer_id: layerId, parent_snapshot }: AssignmentRow): WantedLayer | null {
  return layerId === null ? null : { layerId, isForMemory: parent_snapshot === 'memory' };
}

function assignmentOf(row: AssignmentRow, defaults: RunDefaults): RunAssignment {
  const isRender = row.kind === 'render';
  return {
    leaseId: row.lease_id,
    fence: row.fence,
    capsuleId: row.capsule_id,
    work: isRender ? renderOf(row) : { kind: 'shell', text: row.command },
    base: baseOf(row, defaults),
    shape: defaults.shape,
    sourceDigest: row.builds_in === null ? row.source_digest : null,
    env: isRender ? {} : { ...row.env, ...row.build_env, ...contextOf(row) },
    timeoutMs: isRender ? defaults.renderTimeoutMs : (row.timeout_ms ?? defaults.jobTimeoutMs),
    graceMs: defaults.graceMs,
    maxOutputBytes: defaults.maxOutputBytes,
    sealAs: row.is_parent ? row.lease_id : null,
    ...(row.snapshot === null ? {} : { snapshot: row.snapshot }),
    egress: isRender ? 'none' : 'internet',
  };
}

function baseOf(row: AssignmentRow, defaults: RunDefaults): RunAssignment['base'] {
  const { job_id, builds_in, parent_layer_id, parent_snapshot, image } = row;
  if (builds_in === null) return { image: image ?? defaults.image };
  if (parent_layer_id === null) throw new Error(`job ${job_id} builds in a job that left no disk`);
  return { layerId: parent_layer_id, ...(parent_snapshot === null ? {} : { snapshot: parent_snapshot }) };
}

function loadRows(db: Database, leaseIds: readonly string[]) {
  return db
    .selectFrom('leases')
    .innerJoin('jobs', 'jobs.id', 'leases.job_id')
    .innerJoin('builds', 'builds.id', 'jobs.build_id')
    .innerJoin('pipelines', 'pipelines.id', 'builds.pipeline_id')
    .innerJoin('organizations', 'organizations.id', 'builds.organization_id')
    .leftJoin('jobs as parents', 'parents.id', 'jobs.builds_in')
    .leftJoin('layer_copies', (join) =>
      join.onRef('layer_copies.layer_id', '=', 'parents.layer_id').onRef('layer_copies.host_id', '=', 'leases.host_id'),
    )
    .select('layer_copies.layer_id as copied_layer_id')
    .select(['leases.id as lease_id', 'leases.fence', 'leases.capsule_id'])
    .select(['parents.layer_id as parent_layer_id', 'parents.snapshot as parent_snapshot'])
    .select([
      'jobs.kind',
      'jobs.command',
      'jobs.image',
      'jobs.env',
      'jobs.timeout_ms',
      'jobs.builds_in',
      'jobs.is_parent',
      'jobs.snapshot',
    ])
    .select([
      'jobs.id as job_id',
      'jobs.step_key',
      'builds.id as build_id',
      'builds.number',
      'builds.branch',
      'builds.commit',
    ])
    .select([
      'builds.env as build_env',
      'builds.source_digest',
      'builds.render_slug',
      'pipelines.slug as pipeline_slug',
      'pipelines.source_slug',
    ])
    .select('organizations.slug as organization_slug')
    .select(sql<number>`extract(epoch from builds.created_at)::float8`.as('created_s'))
    .where(({ eb, val }) => eb('leases.id', '=', eb.fn.any(val(leaseIds))))
    .where('leases.status', '=', 'held')
    .execute();
}

function renderOf(row: AssignmentRow): RunAssignment['work'] {
  return {
    kind: 'render',
    slug: row.render_slug,
    preferred: row.source_slug ?? row.pipeline_slug,
    organization: row.organization_slug,
    nowS: Math.floor(row.created_s),
  };
}

type AssignmentRow = Awaited<ReturnType<typeof loadRows>>[number];

/** Where a command is; documented in `docs/pipelines.md`. */
function contextOf(row: AssignmentRow): Record<string, string> {
  return {
    CI: 'true',
    CAISSON: 'true',
    CAISSON_ORGANIZATION: row.organization_slug,
    CAISSON_PIPELINE: row.pipeline_slug,
    CAISSON_BUILD_ID: row.build_id,
    CAISSON_BUILD_NUMBER: String(row.number),
    CAISSON_BRANCH: row.branch ?? '',
    CAISSON_COMMIT: row.commit ?? '',
    CAISSON_JOB_ID: row.job_id,
    CAISSON_JOB_KEY: row.step_key,
  };
}
