import type { Operation } from './operation.ts';
import { choice, type JsonSchema, nullable, record, text, time, uuid, wholeList } from './schema.ts';

export const memberOperations: readonly Operation[] = [
  {
    id: 'listOrgMembers',
    method: 'get',
    path: '/api/v0/organizations/{org}/members',
    tag: 'organizations',
    security: 'bearer',
    summary: 'List members',
    answer: { status: 200, schema: 'OrgMemberList', description: 'All members, by role and e-mail.' },
    refusals: ['organization_not_found'],
  },
  {
    id: 'updateOrgMember',
    method: 'patch',
    path: '/api/v0/organizations/{org}/members/{user_id}',
    tag: 'organizations',
    security: 'bearer',
    summary: "Change a member's role",
    description: 'Admins and owners may; whatever concerns the role owner takes an owner.',
    body: { schema: 'UpdateMemberRoleRequest' },
    answer: { status: 200, schema: 'OrgMember', description: 'The member with the new role.' },
    refusals: ['organization_not_found', 'insufficient_org_role', 'member_not_found', 'last_owner'],
    invalid: 'invalid_role',
  },
  {
    id: 'removeOrgMember',
    method: 'delete',
    path: '/api/v0/organizations/{org}/members/{user_id}',
    tag: 'organizations',
    security: 'bearer',
    summary: 'Remove a member',
    answer: { status: 204, description: 'No longer a member.' },
    refusals: ['organization_not_found', 'insufficient_org_role', 'member_not_found', 'last_owner'],
  },
  {
    id: 'listInvites',
    method: 'get',
    path: '/api/v0/organizations/{org}/invites',
    tag: 'organizations',
    security: 'bearer',
    summary: 'List pending invites',
    answer: { status: 200, schema: 'InviteList', description: 'Pending invites without their tokens.' },
    refusals: ['organization_not_found', 'insufficient_org_role'],
  },
  {
    id: 'createInvite',
    method: 'post',
    path: '/api/v0/organizations/{org}/invites',
    tag: 'organizations',
    security: 'bearer',
    summary: 'Invite somebody',
    description: 'The invite holds for seven days. Nothing is mailed: pass the token on yourself.',
    body: { schema: 'CreateInviteRequest' },
    answer: { status: 201, schema: 'Invite', description: 'The invite with its token, shown only here.' },
    refusals: ['organization_not_found', 'insufficient_org_role'],
    invalid: 'invite_invalid',
  },
  {
    id: 'revokeInvite',
    method: 'delete',
    path: '/api/v0/organizations/{org}/invites/{id}',
    tag: 'organizations',
    security: 'bearer',
    summary: 'Take an invite back',
    answer: { status: 204, description: 'The invite no longer works.' },
    refusals: ['organization_not_found', 'insufficient_org_role', 'invite_not_found'],
  },
  {
    id: 'acceptInvite',
    method: 'post',
    path: '/api/v0/invites/accept',
    tag: 'organizations',
    security: 'bearer',
    summary: 'Accept an invite',
    description: "The invite's e-mail must be that of the caller.",
    body: { schema: 'AcceptInviteRequest' },
    answer: { status: 200, schema: 'Organization', description: 'The organization joined.' },
    invalid: 'invite_unacceptable',
  },
];

const email = text('E-mail address.', { minLength: 3, maxLength: 320 });

export const memberSchemas: Readonly<Record<string, JsonSchema>> = {
  OrgMember: record('A user in an organization.', {
    user_uuid: uuid('Id of the user.'),
    email: text('E-mail address.'),
    name: nullable(text('Display name.')),
    role: choice('What the member may do.', ['owner', 'admin', 'member']),
  }),
  OrgMemberList: wholeList('OrgMember', 'Members of an organization.'),
  UpdateMemberRoleRequest: record('The role to give.', { role: choice('The new role.', ['owner', 'admin', 'member']) }),
  Invite: record(
    'An open place in an organization.',
    {
      id: uuid('Id of the invite.'),
      email: text('Whom it is for.'),
      role: choice('Role the member will have.', ['admin', 'member']),
      expires_at: time('When it stops working.'),
    },
    { token: nullable(text('What to accept with; only in the answer that made the invite.')) },
  ),
  InviteList: wholeList('Invite', 'Pending invites.'),
  CreateInviteRequest: record('Whom to invite.', {
    email,
    role: choice('Role the member will have.', ['admin', 'member']),
  }),
  AcceptInviteRequest: record('Which invite.', {
    token: text('The token passed on.', { minLength: 1, maxLength: 1024 }),
  }),
};
