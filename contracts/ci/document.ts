import { authOperations, authSchemas } from './document/auth.ts';
import { billingOperations, billingSchemas } from './document/billing.ts';
import { bitbucketOperations, bitbucketSchemas } from './document/bitbucket.ts';
import { buildOperations, buildSchemas } from './document/builds.ts';
import { githubOperations, githubSchemas } from './document/github.ts';
import { jobOperations, jobSchemas } from './document/jobs.ts';
import { memberOperations, memberSchemas } from './document/members.ts';
import { metaOperations, metaSchemas } from './document/meta.ts';
import { type Operation, openApiOperation } from './document/operation.ts';
import { organizationOperations, organizationSchemas } from './document/organizations.ts';
import { passkeyOperations, passkeySchemas } from './document/passkeys.ts';
import { pipelineOperations, pipelineSchemas } from './document/pipelines.ts';
import { repoOperations, repoSchemas } from './document/repos.ts';
import type { JsonSchema } from './document/schema.ts';
import { userOperations, userSchemas } from './document/user.ts';

/** Every operation of the CI door in short form, in the order of the document. */
export const ciOperations: readonly Operation[] = [
  ...metaOperations,
  ...authOperations,
  ...passkeyOperations,
  ...userOperations,
  ...organizationOperations,
  ...memberOperations,
  ...pipelineOperations,
  ...buildOperations,
  ...jobOperations,
  ...billingOperations,
  ...repoOperations,
  ...githubOperations,
  ...bitbucketOperations,
];

const schemas: Readonly<Record<string, JsonSchema>> = {
  ...metaSchemas,
  ...authSchemas,
  ...passkeySchemas,
  ...userSchemas,
  ...organizationSchemas,
  ...memberSchemas,
  ...pipelineSchemas,
  ...buildSchemas,
  ...jobSchemas,
  ...billingSchemas,
  ...repoSchemas,
  ...githubSchemas,
  ...bitbucketSchemas,
};

export interface OpenApiDocument {
  readonly openapi: '3.0.3';
  readonly info: { readonly title: string; readonly version: string; readonly description: string };
  readonly servers: readonly { readonly url: string }[];
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, JsonSchema>>>>;
  readonly components: {
    readonly securitySchemes: Readonly<Record<string, JsonSchema>>;
    readonly schemas: Readonly<Record<string, JsonSchema>>;
  };
}

const tagDescriptions: Readonly<Record<string, string>> = {
  meta: 'About the door itself.',
  auth: 'Signing in and out.',
  user: 'The caller, personal tokens and passkeys.',
  organizations: 'Organizations, members and invites.',
  pipelines: 'Pipelines.',
  builds: 'Builds and their sources.',
  jobs: 'Jobs of a build.',
  billing: 'Balance, usage and payment.',
  repos: 'Repositories of all code hosts.',
  github: 'Connections to GitHub.',
  bitbucket: 'Connections to Bitbucket.',
};

/** The contract of the CI door as an OpenAPI 3.0 document; routes, types and docs come from it. */
export function ciDocument(): OpenApiDocument {
  return {
    openapi: '3.0.3',
    info: {
      title: 'Caisson CI API',
      version: '0',
      description: 'Pipelines, builds and jobs. Entries marked `x-caisson` are our additions to the wire.',
    },
    servers: [{ url: '/' }],
    tags: Object.entries(tagDescriptions).map(([name, description]) => ({ name, description })),
    paths: pathsOf(ciOperations),
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'A session or personal token.' },
        runnerToken: { type: 'http', scheme: 'bearer', description: 'The token of one build, held by its capsules.' },
      },
      schemas,
    },
  };
}

function pathsOf(operations: readonly Operation[]): OpenApiDocument['paths'] {
  const paths: Record<string, Record<string, JsonSchema>> = {};
  for (const operation of operations) {
    paths[operation.path] = { ...paths[operation.path], [operation.method]: openApiOperation(operation) };
  }
  return paths;
}
