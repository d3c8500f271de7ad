import type { Selectable } from 'kysely';
import type { BuildsTable, Trigger } from '../store/schema.ts';

/** What the doors may ask of the engine. Reads go to the tables directly; every change of a status goes through here. */
export interface Engine {
  /**
   * Records a build and plans it. With `pipelineIr` that is immediate; otherwise the pipeline is rendered from the source in a
   * capsule and the promise waits for it (the build goes on by itself when the caller or this process goes away).
   */
  createBuild(input: NewBuild): Promise<CreatedBuild>;
  /** Asks for the end of a build; a finished build stays as it is. Resolves when the request is recorded. */
  cancelBuild(buildId: string): Promise<void>;
  /** Calls back after new output or a new state of a job was committed, here or in another control plane; returns the unsubscribe. */
  onJobChange(jobId: string, wake: () => void): () => void;
  /** The same for a build and the states of its jobs. */
  onBuildChange(buildId: string, wake: () => void): () => void;
  /** Aborts when whoever waits for a change shall go without, since the process is about to stop. */
  readonly waitsOver: AbortSignal;
}

export interface NewBuild {
  readonly organizationId: string;
  readonly pipelineId: string;
  readonly trigger: Trigger;
  readonly createdBy: string | null;
  readonly branch: string | null;
  readonly commit: string | null;
  readonly message: string | null;
  readonly env: Readonly<Record<string, string>>;
  /** sha256 of an archive already in the blob store; null runs without sources. */
  readonly sourceDigest: string | null;
  /** IR as JSON text; null renders it from the source. */
  readonly pipelineIr: string | null;
  /** Which pipeline of the source to render; null when it holds just one. */
  readonly renderSlug: string | null;
  readonly stopOnFailure: boolean;
}

export interface CreatedBuild {
  readonly build: Selectable<BuildsTable>;
  /** Set when the graph was refused: the build exists and is `failed` with this code and message. */
  readonly rejection: { readonly code: string; readonly message: string } | null;
}
