import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkSlug, type Pipeline, type PipelineDefinition } from '../define-pipeline.ts';
import { slug } from '../step-key.ts';

/**
 * Imports every file and collects what they define, in order. A file that exports neither a default nor `pipelines` only serves
 * the others. Throws what a file throws, and when definitions are malformed or share a slug.
 */
export async function loadDefinitions(
  workspace: string,
  files: readonly string[],
  reading: (file: string) => void,
): Promise<readonly PipelineDefinition[]> {
  const owners = new Map<string, string>();
  const definitions: PipelineDefinition[] = [];
  for (const file of files) {
    reading(file);
    for (const definition of await loadFile(workspace, file)) {
      const other = owners.get(definition.slug);
      if (other !== undefined)
        throw new Error(`two pipelines are called "${definition.slug}": in ${other} and in ${file}. Rename one.`);
      owners.set(definition.slug, file);
      definitions.push(definition);
    }
  }
  if (definitions.length === 0) {
    throw new Error(
      `${files.join(', ')}: no pipeline is exported. End the file with: export default pipeline([ ... ]);`,
    );
  }
  return definitions;
}

/** Which pipeline of a repository: the one called `slug` and no other, else the only one, else the one called `preferred`. */
export interface Choice {
  readonly slug: string | undefined;
  readonly preferred?: string | undefined;
}

/** Throws with the slugs to choose from when the choice fits none, or several. */
export function pickDefinition(
  definitions: readonly PipelineDefinition[],
  { slug: wanted, preferred }: Choice,
): PipelineDefinition {
  const slugs = definitions.map((definition) => definition.slug).join(', ');
  const matching = definitions.filter((definition) => wanted === undefined || definition.slug === wanted);
  const favourite = matching.find((definition) => definition.slug === preferred);
  if (matching.length > 1 && favourite !== undefined) return favourite;
  if (matching.length > 1) throw new Error(`there are several pipelines; name one of: ${slugs}.`);
  const [only] = matching;
  if (only === undefined) throw new Error(`there is no pipeline "${wanted}"; this repository has: ${slugs}.`);
  return only;
}

async function loadFile(workspace: string, file: string): Promise<readonly PipelineDefinition[]> {
  const exported: unknown = await import(pathToFileURL(join(workspace, file)).href);
  if (typeof exported !== 'object' || exported === null) return [];
  const given: unknown = await ('default' in exported
    ? exported.default
    : 'pipelines' in exported
      ? exported.pipelines
      : []);
  const list: readonly unknown[] = Array.isArray(given) ? given : [given];
  return list.map((value, index) => readDefinition(value, list.length > 1 ? `${file}: pipeline ${index + 1}` : file));
}

function readDefinition(value: unknown, where: string): PipelineDefinition {
  if (isPipeline(value)) return { slug: slugOfFile(where), pipeline: value };
  if (typeof value !== 'object' || value === null || !('pipeline' in value)) {
    throw new Error(`${where}: export a pipeline([ ... ]) or a list of { slug, pipeline: pipeline([ ... ]) }.`);
  }
  const definition: Partial<Record<keyof PipelineDefinition, unknown>> = value;
  checkSlug(definition.slug, where);
  const named = `${where} ("${definition.slug}")`;
  if (!isPipeline(definition.pipeline))
    throw new Error(`${named}: "pipeline" must be the answer of pipeline([ ... ]).`);
  return {
    slug: definition.slug,
    name: optional(definition.name, 'string', `${named}: name`) ?? definition.slug,
    allowManual: optional(definition.allowManual, 'boolean', `${named}: allowManual`) ?? true,
    triggers: readTriggers(definition.triggers, named),
    pipeline: definition.pipeline,
  };
}

function optional(value: unknown, type: 'string', what: string): string | undefined;
function optional(value: unknown, type: 'boolean', what: string): boolean | undefined;
function optional(value: unknown, type: string, what: string): unknown {
  if (value !== undefined && typeof value !== type) throw new Error(`${what} must be a ${type}.`);
  return value;
}

function readTriggers(value: unknown, where: string): NonNullable<PipelineDefinition['triggers']> {
  const list: unknown = value ?? [];
  if (!Array.isArray(list) || list.some((trigger) => typeof trigger?.event !== 'string')) {
    throw new Error(`${where}: triggers is a list of push({ ... }) and pullRequest({ ... }).`);
  }
  return list;
}

function isPipeline(value: unknown): value is Pipeline {
  return (
    typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'pipeline' && 'steps' in value
  );
}

/** A bare pipeline is called after its file. */
function slugOfFile(where: string): string {
  const name = slug(where.replace(/^.*\//, '').replace(/\.ts\b.*$/, ''));
  checkSlug(name, `${where}: the slug made from the file's name`);
  return name;
}
