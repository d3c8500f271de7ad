import type { Handler } from './operation.ts';
import { presentOrganization } from './present.ts';
import { findOrganization } from './scope.ts';

export const getOrganization: Handler<'getOrganization'> = async (deps, caller, { path }) =>
  presentOrganization(await findOrganization(deps, caller, { ...path, action: 'organization.view' }));
