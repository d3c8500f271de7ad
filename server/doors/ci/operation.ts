import type { operations } from '@caisson/contracts/ci/ci-api.generated';
import type { OperationId } from '@caisson/contracts/ci/implemented';
import type { Caller } from '@caisson/core/authorize';
import type { Engine } from '../../engine/engine.ts';
import type { InstallationSecrets } from '../../identity/installation-secrets.ts';
import type { Blobs } from '../../store/blobs.ts';
import type { Database } from '../../store/database.ts';

/** What the operations of the door work with. */
export interface CiDeps {
  readonly db: Database;
  readonly engine: Engine;
  readonly blobs: Blobs;
  readonly secrets: InstallationSecrets;
  /** Largest source archive `uploadSource` takes. */
  readonly maxSourceBytes: number;
  /** How many builds of one organization may wait or run. */
  readonly maxUnfinishedBuilds: number;
  readonly nowMs: () => number;
}

/** Who calls the door; for users with the token they came with, which `logout` ends. */
export type CiCaller = Caller & { readonly tokenId?: string };

type Content<T> = T extends { content: infer C } ? C[keyof C & 'application/json'] : undefined;
type Success<R> = R extends { 200: infer S } ? S : R extends { 201: infer S } ? S : undefined;
type Part<T, Name extends string> = T extends { [K in Name]: infer P } ? NonNullable<P> : Record<string, never>;

/** A request that satisfies the contract: path parameters, query and JSON body. */
export interface Input<Id extends OperationId> {
  readonly path: Part<operations[Id]['parameters'], 'path'>;
  readonly query: Partial<Part<operations[Id]['parameters'], 'query'>>;
  readonly body: operations[Id] extends { requestBody: infer B } ? Content<B> : undefined;
}

export type Output<Id extends OperationId> = Content<Success<operations[Id]['responses']>>;

/** One operation: input to output, or an `AppError` the contract lists. */
export type Handler<Id extends OperationId> = (deps: CiDeps, caller: CiCaller, input: Input<Id>) => Promise<Output<Id>>;
