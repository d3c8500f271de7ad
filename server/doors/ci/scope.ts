import { AppError } from '@caisson/contracts/app-error';
import type { ErrorCode } from '@caisson/contracts/error-table';
import { type Action, authorize, type Caller, type Resource } from '@caisson/core/authorize';
import type { CiDeps } from './operation.ts';
import {
  type BuildRow,
  type OrganizationRow,
  type PipelineRow,
  selectBuilds,
  selectOrganizations,
  selectPipelines,
} from './select.ts';

/** A question to the policy, and what to answer when the caller must not learn that the thing exists. */
interface Check {
  readonly action: Action;
  readonly resource: Resource;
  readonly hidden: ErrorCode;
}

/** Throws unless the policy allows it. */
export function demand(caller: Caller, check: Check): void {
  switch (authorize(caller, check.action, check.resource)) {
    case 'allowed':
      return;
    case 'unauthenticated':
      throw new AppError('unauthorized', 'this needs a token');
    case 'forbidden':
      throw new AppError('insufficient_org_role', 'your role in this organization does not allow this');
    case 'hidden':
      throw notFound(check.hidden);
  }
}

export function notFound(code: ErrorCode): AppError {
  return new AppError(code, `${code.replace(/_not_found$/, '').replaceAll('_', ' ')} not found`);
}

/** The organization of a path, once the caller may do `action` there; `organization_not_found` for everybody else. */
export async function findOrganization(
  { db }: CiDeps,
  caller: Caller,
  { org, action }: { org: string; action: Action },
): Promise<OrganizationRow> {
  const row = await selectOrganizations(db).where('slug', '=', org).executeTakeFirst();
  if (!row) throw notFound('organization_not_found');
  demand(caller, {
    action,
    resource: { kind: 'organization', organizationId: row.id },
    hidden: 'organization_not_found',
  });
  return row;
}

export interface PipelineScope {
  readonly organization: OrganizationRow;
  readonly pipeline: PipelineRow;
}

/** The pipeline of a path; archived ones too. */
export async function findPipeline(
  deps: CiDeps,
  caller: Caller,
  at: { org: string; pipeline: string; action: Action },
): Promise<PipelineScope> {
  const organization = await findOrganization(deps, caller, at);
  const pipeline = await selectPipelines(deps.db)
    .where('organization_id', '=', organization.id)
    .where('slug', '=', at.pipeline)
    .executeTakeFirst();
  if (!pipeline) throw notFound('pipeline_not_found');
  return { organization, pipeline };
}

/** The build of a path. */
export async function findBuild(
  deps: CiDeps,
  caller: Caller,
  at: { org: string; pipeline: string; number: number; action: Action },
): Promise<BuildRow> {
  const { pipeline } = await findPipeline(deps, caller, at);
  const build = await selectBuilds(deps.db)
    .where('builds.pipeline_id', '=', pipeline.id)
    .where('builds.number', '=', at.number)
    .executeTakeFirst();
  if (!build) throw notFound('build_not_found');
  return build;
}
