export const roles = ['owner', 'admin', 'member'] as const;
export type Role = (typeof roles)[number];

/** Who asks. `memberships` holds the caller's role by organization id; an organization missing there has no such member. */
export type Caller =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'session'; readonly userId: string; readonly memberships: ReadonlyMap<string, Role> }
  /** A personal token acts as its user. */
  | {
      readonly kind: 'token';
      readonly tokenId: string;
      readonly userId: string;
      readonly memberships: ReadonlyMap<string, Role>;
    }
  | { readonly kind: 'host'; readonly hostId: string }
  /** Code inside a capsule, or the host on its behalf: one run of one build, or any of its runs (`leaseId` null). */
  | { readonly kind: 'run'; readonly leaseId: string | null; readonly buildId: string }
  /** Holder of a log token: reads the logs of one build and nothing else. */
  | { readonly kind: 'log_reader'; readonly buildId: string };

/** On what. Every resource below an organization names it. */
export type Resource =
  /** The caller's own account, or nothing in particular. */
  | { readonly kind: 'account' }
  /** `memberRoles`: for changes to a member, the roles concerned, present and new. */
  | { readonly kind: 'organization'; readonly organizationId: string; readonly memberRoles?: readonly Role[] }
  | { readonly kind: 'build'; readonly organizationId: string; readonly buildId: string }
  | { readonly kind: 'host'; readonly hostId: string };

/** `hidden`: the caller must not learn that it exists, so the door answers as if it did not (404). */
export type Decision = 'allowed' | 'unauthenticated' | 'forbidden' | 'hidden';

const anyone: readonly Role[] = roles;
const managers: readonly Role[] = ['owner', 'admin'];
const owners: readonly Role[] = ['owner'];

/** Who may do what below an organization. */
const organizationActions = {
  'organization.view': anyone,
  'organization.manage': owners,
  'organization.delete': owners,
  'member.list': anyone,
  'member.update': managers,
  'member.remove': managers,
  'invite.list': managers,
  'invite.create': managers,
  'invite.revoke': managers,
  'repository.list': anyone,
  'pipeline.list': anyone,
  'pipeline.view': anyone,
  'pipeline.create': anyone,
  'build.list': anyone,
  'build.view': anyone,
  'build.create': anyone,
  'build.cancel': anyone,
  'job.view': anyone,
  'log.view': anyone,
  'source.upload': anyone,
  'source.read': anyone,
  'billing.view': anyone,
  'billing.add_credit': anyone,
  'vcs.view': anyone,
  'vcs.connect': anyone,
} as const satisfies Record<string, readonly Role[]>;

/** What every signed-in user may do with the own account. */
const accountActions = [
  'user.view',
  'user.update',
  'user.delete',
  'session.end',
  'cli.transfer',
  'token.list',
  'token.create',
  'token.revoke',
  'passkey.list',
  'passkey.register',
  'passkey.delete',
  'organization.list',
  'organization.create',
  'invite.accept',
] as const;

const hostActions = ['host.report'] as const;

type OrganizationAction = keyof typeof organizationActions;
export type Action = OrganizationAction | (typeof accountActions)[number] | (typeof hostActions)[number];

/** Every action there is. */
export const actions: readonly Action[] = [
  ...(Object.keys(organizationActions) as OrganizationAction[]),
  ...accountActions,
  ...hostActions,
];

/** The one policy of all doors. Total: what no line allows is refused. */
export function authorize(caller: Caller, action: Action, resource: Resource): Decision {
  switch (caller.kind) {
    case 'anonymous':
      return 'unauthenticated';
    case 'session':
    case 'token':
      return authorizeUser(caller.memberships, action, resource);
    case 'host':
      return action === 'host.report' && resource.kind === 'host' && resource.hostId === caller.hostId
        ? 'allowed'
        : 'hidden';
    case 'run':
      return action === 'source.read' && isBuild(resource, caller.buildId) ? 'allowed' : 'hidden';
    case 'log_reader':
      return action === 'log.view' && isBuild(resource, caller.buildId) ? 'allowed' : 'hidden';
  }
}

function authorizeUser(memberships: ReadonlyMap<string, Role>, action: Action, resource: Resource): Decision {
  if (isAccountAction(action)) return resource.kind === 'account' ? 'allowed' : 'hidden';
  if (!isOrganizationAction(action) || !('organizationId' in resource)) return 'hidden';
  const role = memberships.get(resource.organizationId);
  if (role === undefined) return 'hidden';
  const allowed: readonly Role[] = organizationActions[action];
  if (!allowed.includes(role)) return 'forbidden';
  return isOwnersAlone(resource) && role !== 'owner' ? 'forbidden' : 'allowed';
}

/** Only an owner may grant, change or remove an owner. */
function isOwnersAlone(resource: Resource): boolean {
  return resource.kind === 'organization' && (resource.memberRoles ?? []).includes('owner');
}

function isBuild(resource: Resource, buildId: string): boolean {
  return resource.kind === 'build' && resource.buildId === buildId;
}

function isAccountAction(action: Action): boolean {
  return accountActions.some((known) => known === action);
}

function isOrganizationAction(action: Action): action is OrganizationAction {
  return Object.hasOwn(organizationActions, action);
}
