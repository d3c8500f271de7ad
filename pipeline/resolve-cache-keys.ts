import { type CacheInputs, cacheKey, resolveCache } from './cache-key.ts';
import type { IrStep, PipelineIr } from './ir.ts';

/** What cache keys depend on besides the document. `env` is the render's environment; a step's own env goes over it. */
export interface CacheKeyInputs extends Omit<CacheInputs, 'command'> {
  readonly organization: string;
  readonly pipeline: string;
}

/** The document with `cache.key` set wherever a step is cached. Throws when a cached step starts from one that is not. */
export function resolveCacheKeys(ir: PipelineIr, inputs: CacheKeyInputs): PipelineIr {
  const parents = new Map<number, number>();
  for (const [from, to, kind] of ir.graph.edges) if (kind === 'builds_in') parents.set(to, from);
  const keys: (string | null)[] = [];
  const nodes = ir.graph.nodes.map((node, index) => {
    const parent = parents.get(index);
    const parentKey = parent === undefined ? null : (keys[parent] ?? null);
    const resolution = resolveNode(node, inputs);
    if (resolution !== null && parent !== undefined && parentKey === null)
      refuse(node.step, ir.graph.nodes[parent]?.step);
    const parts = {
      organization: inputs.organization,
      pipeline: inputs.pipeline,
      stepKey: node.step.key,
      image: node.step.image ?? '',
      parentKey,
    };
    const key = resolution === null ? null : cacheKey({ ...parts, resolution }, inputs.sha256Hex);
    keys.push(key);
    return key === null ? node : { ...node, step: withKey(node.step, key) };
  });
  return { ...ir, graph: { ...ir.graph, nodes } };
}

function resolveNode({ step, env }: PipelineIr['graph']['nodes'][number], inputs: CacheKeyInputs): string | null {
  if (step.cache === undefined) return null;
  return resolveCache(step.cache, { ...inputs, command: step.cmd, env: { ...inputs.env, ...env } });
}

function withKey(step: IrStep, key: string): IrStep {
  return step.cache === undefined ? step : { ...step, cache: { ...step.cache, key } };
}

function refuse(step: IrStep, parent: IrStep | undefined): never {
  throw new Error(
    `step "${step.key}" is cached but starts from step "${parent?.key ?? ''}", which is not: every step above a cached one must be cached too. Give "${parent?.key ?? ''}" a cache policy or drop the one of "${step.key}".`,
  );
}
