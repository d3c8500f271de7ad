import { createHash } from 'node:crypto';
import type { PipelineDefinition } from '../define-pipeline.ts';
import type { PipelineIr } from '../ir.ts';
import { lowerPipeline } from '../lower-pipeline.ts';
import { resolveCacheKeys } from '../resolve-cache-keys.ts';
import type { Trigger } from '../trigger.ts';
import { findPipelineFiles } from './find-pipeline-files.ts';
import { hashPathsOf } from './hash-paths.ts';
import { type Choice, loadDefinitions, pickDefinition } from './load-definitions.ts';

export interface RenderRequest {
  /** Absolute, without symbolic links. */
  readonly workspace: string;
  readonly organization: string;
  readonly nowSeconds: number;
  readonly env: Readonly<Record<string, string>>;
  readonly warn: (message: string) => void;
  /** Told which pipeline file is read next; null when they have all been read. */
  readonly reading: (file: string | null) => void;
}

/** What a repository offers, as it travels to the server. */
export interface RegistryEnvelope {
  readonly schema_version: '1';
  readonly pipelines: readonly {
    readonly slug: string;
    readonly name: string;
    readonly allow_manual: boolean;
    readonly triggers: readonly Trigger[];
    readonly definition: PipelineIr;
  }[];
}

/** The IR of the chosen pipeline with its cache keys. Runs the pipeline files in this process. */
export async function renderPipeline(request: RenderRequest, choice: Choice): Promise<PipelineIr> {
  return render(request, pickDefinition(await load(request), choice));
}

/** Every pipeline of the repository, rendered. Runs the pipeline files in this process. */
export async function renderEnvelope(request: RenderRequest): Promise<RegistryEnvelope> {
  const pipelines = (await load(request)).map((definition) => ({
    slug: definition.slug,
    name: definition.name ?? definition.slug,
    allow_manual: definition.allowManual ?? true,
    triggers: definition.triggers ?? [],
    definition: render(request, definition),
  }));
  return { schema_version: '1', pipelines };
}

async function load({ workspace, reading }: RenderRequest): Promise<readonly PipelineDefinition[]> {
  const definitions = await loadDefinitions(workspace, findPipelineFiles(workspace), reading);
  reading(null);
  return definitions;
}

function render(request: RenderRequest, { slug, pipeline }: PipelineDefinition): PipelineIr {
  const { organization, nowSeconds, env } = request;
  const hashPaths = hashPathsOf(request.workspace, request.warn);
  return resolveCacheKeys(lowerPipeline(pipeline, sha256Hex), {
    organization,
    pipeline: slug,
    nowSeconds,
    env,
    hashPaths,
    sha256Hex,
  });
}

function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
