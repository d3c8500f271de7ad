import { describe, expect, test } from 'vitest';
import {
  type Action,
  actions,
  authorize,
  type Caller,
  type Decision,
  type Resource,
  type Role,
  roles,
} from '../authorize.ts';

const organization: Resource = { kind: 'organization', organizationId: 'org' };
const build: Resource = { kind: 'build', organizationId: 'org', buildId: 'b1' };
const account: Resource = { kind: 'account' };
const user = (role: Role | null, kind: 'session' | 'token' = 'session'): Caller => {
  const memberships = new Map<string, Role>(role === null ? [['other', 'owner']] : [['org', role]]);
  return kind === 'session' ? { kind, userId: 'u', memberships } : { kind, tokenId: 't', userId: 'u', memberships };
};
const ownersOnly: readonly Action[] = ['organization.manage', 'organization.delete'];
const managersOnly: readonly Action[] = [
  'member.update',
  'member.remove',
  'invite.list',
  'invite.create',
  'invite.revoke',
];
const ofAccount = /^(user|session|cli|token|passkey)\.|^organization\.(list|create)$|^invite\.accept$/;

function expected(action: Action, role: Role | null): Decision {
  if (action === 'host.report') return 'hidden';
  if (ofAccount.test(action)) return 'hidden';
  if (role === null) return 'hidden';
  if (ownersOnly.includes(action)) return role === 'owner' ? 'allowed' : 'forbidden';
  if (managersOnly.includes(action)) return role === 'member' ? 'forbidden' : 'allowed';
  return 'allowed';
}

const cells = actions.flatMap((action) =>
  [...roles, null].map((role) => ({ action, role, decision: expected(action, role) })),
);

test.each(cells)('$role, $action in an organization: $decision', ({ action, role, decision }) => {
  expect(authorize(user(role), action, organization)).toBe(decision);
  expect(authorize(user(role, 'token'), action, organization)).toBe(decision);
});

test.each(actions)('%s of the own account, and without signing in', (action) => {
  expect(authorize(user(null), action, account)).toBe(ofAccount.test(action) ? 'allowed' : 'hidden');
  for (const resource of [account, organization, build]) {
    expect(authorize({ kind: 'anonymous' }, action, resource)).toBe('unauthenticated');
  }
});

describe('owners', () => {
  const change = (role: Role, memberRoles: readonly Role[]) =>
    authorize(user(role), 'member.update', { kind: 'organization', organizationId: 'org', memberRoles });
  test('alone may make, change or remove an owner', () => {
    expect([change('owner', ['owner', 'member']), change('admin', ['admin', 'member'])]).toEqual([
      'allowed',
      'allowed',
    ]);
    expect([change('admin', ['owner', 'member']), change('admin', ['member', 'owner'])]).toEqual([
      'forbidden',
      'forbidden',
    ]);
    expect(change('member', ['member', 'admin'])).toBe('forbidden');
  });
});

describe('callers that are not people', () => {
  const run: Caller = { kind: 'run', leaseId: 'l', buildId: 'b1' };
  const reader: Caller = { kind: 'log_reader', buildId: 'b1' };
  const host: Caller = { kind: 'host', hostId: 'h1' };
  const allowedOf = (caller: Caller, resource: Resource) =>
    actions.filter((action) => authorize(caller, action, resource) === 'allowed');

  test('do one thing each, with what is theirs', () => {
    expect(allowedOf(run, build)).toEqual(['source.read']);
    expect(allowedOf(reader, build)).toEqual(['log.view']);
    expect(allowedOf(host, { kind: 'host', hostId: 'h1' })).toEqual(['host.report']);
  });

  test('never learn of anything else', () => {
    const others: Resource[] = [organization, account, { ...build, buildId: 'b2' }, { kind: 'host', hostId: 'h2' }];
    for (const caller of [run, reader, host]) {
      for (const resource of others) {
        for (const action of actions) expect(authorize(caller, action, resource)).toBe('hidden');
      }
    }
  });
});

test('a build is seen by every member and by nobody else', () => {
  for (const role of roles) expect(authorize(user(role), 'build.cancel', build)).toBe('allowed');
  expect(authorize(user(null), 'build.view', build)).toBe('hidden');
});
