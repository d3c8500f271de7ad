import type { components } from '@caisson/contracts/ci/ci-api.generated';
import type { ApiTokenRow, BuildRow, JobRow, OrganizationRow, PipelineRow } from './select.ts';

type Wire = components['schemas'];

/** Rows as the wire spells them. Every nullable field is present. */
export function presentBuild(row: BuildRow): Wire['Build'] {
  return {
    number: row.number,
    state: row.status,
    pipeline_slug: row.pipeline_slug,
    created_at: row.created_at,
    source: row.trigger,
    branch: row.branch,
    commit: row.commit,
    message: row.message,
    error_code: row.error_code,
    error_message: row.error_message,
    scheduled_at: row.scheduled_at,
    started_at: row.started_at,
    finished_at: row.finished_at,
  };
}

export function presentJob(row: JobRow): Wire['Job'] {
  return {
    id: row.id,
    step_key: row.step_key,
    name: row.name,
    state: row.status,
    command: row.command,
    exit_code: row.exit_code,
    soft_failed: false,
    soft_fail_policy: null,
    retry_policy: null,
    error_code: row.error_code,
    error_message: row.error_message,
    depends_on: row.depends_on,
    created_at: row.created_at,
    started_at: row.started_at,
    finished_at: row.finished_at,
  };
}

export function presentPipeline(row: PipelineRow): Wire['Pipeline'] {
  return {
    slug: row.slug,
    name: row.name,
    repository: row.repository,
    default_branch: row.default_branch,
    visibility: row.visibility,
    allow_manual: row.allow_manual,
    created_at: row.created_at,
    repo_name: row.repo_name,
    description: row.description,
  };
}

export function presentOrganization(row: OrganizationRow): Wire['Organization'] {
  return { slug: row.slug, name: row.name, url: row.url, created_at: row.created_at };
}

export function presentApiToken(row: ApiTokenRow): Wire['ApiToken'] {
  return {
    id: row.id,
    description: row.description,
    created_at: row.created_at,
    expires_at: row.expires_at,
    last_used_at: row.last_used_at,
  };
}
