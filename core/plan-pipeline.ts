import { orderSteps } from './order-steps.ts';
import type { Plan, PlannedStep, PlanRejection, PlanResult } from './plan.ts';
import { emptyDraft, type PlanDraft } from './plan-draft.ts';
import { defaultPlanLimits, type PlanLimits } from './plan-limits.ts';
import {
  type At,
  describe,
  fieldOf,
  isJsonObject,
  type JsonObject,
  quote,
  type Reading,
  refuse,
} from './plan-reading.ts';
import { readFlat } from './read-flat.ts';
import { readGraph } from './read-graph.ts';

/**
 * Parses, checks and orders a pipeline document (version "0", JSON text) in any of its three forms: flat `steps`, a `graph` of
 * steps with `cmd`, a `graph` of steps with `eval`. All are held to the same rules; fields it does not know are ignored. Never throws.
 *
 * `default_image` fills every step that starts from no other step's disk and names no image itself.
 */
export function planPipeline(text: string, limits: Partial<PlanLimits> = {}): PlanResult {
  const reading: Reading = { limits: { ...defaultPlanLimits, ...limits }, rejection: null };
  const document: At = { reading, fields: {}, step: null };
  const pipeline: At = { ...document, fields: readDocument(document, text) };
  checkVersion(pipeline);
  const draft = reading.rejection === null ? readDraft(pipeline) : emptyDraft;
  return reading.rejection ?? assemble(draft);
}

function readDocument(at: At, text: string): JsonObject {
  const { textLength } = at.reading.limits;
  if (text.length > textLength) {
    refuse(at, 'too_large', `has ${text.length} characters; at most ${textLength} are allowed.`);
    return {};
  }
  const document = parse(text);
  if (document.ok && isJsonObject(document.value)) return document.value;
  if (document.ok) refuse(at, 'invalid_ir', `is ${describe(document.value)}; it must be an object.`);
  else refuse(at, 'invalid_json', `is not JSON: ${document.message}`);
  return {};
}

function parse(text: string): { ok: true; value: unknown } | { ok: false; message: string } {
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch (error) {
    // The engine quotes the document, which may hold anything.
    const message = error instanceof Error ? error.message : 'it cannot be parsed';
    return { ok: false, message: quote(message.slice(0, 200)).slice(1, -1) };
  }
}

function checkVersion(pipeline: At): void {
  const version = fieldOf(pipeline.fields, 'version');
  if (version === null) refuse(pipeline, 'invalid_ir', 'has no version; add "version": "0".');
  else if (version !== '0') {
    const what = typeof version === 'string' ? quote(version) : describe(version);
    refuse(pipeline, 'bad_version', `has ${what} as version; only the string "0" is understood.`);
  }
}

function readDraft(pipeline: At): PlanDraft {
  const graph = fieldOf(pipeline.fields, 'graph');
  return isJsonObject(graph) ? readGraph(pipeline, graph) : readFlat(pipeline);
}

function assemble(draft: PlanDraft): PlanResult {
  const { steps, parents, from, to, defaultImage, timeoutMs } = draft;
  const ordered = orderSteps({ count: steps.length, from, to });
  if (!ordered.ok) return cycle(draft, ordered.cycle);
  const keyOf = (index: number): string => steps[index]?.key ?? '';
  const isParent = new Set(parents);
  const keepsMemory = (index: number): boolean => isParent.has(index) && steps[index]?.snapshot === 'memory';
  const needsMemory = withAncestors(parents, keepsMemory);
  const planned: PlannedStep[] = [];
  for (const index of ordered.order) {
    const step = steps[index];
    if (step === undefined) continue;
    const parent = parents[index] ?? -1;
    planned.push({
      key: step.key,
      label: step.label,
      command: step.command,
      image: parent === -1 ? (step.image ?? defaultImage) : null,
      env: step.env,
      timeoutMs: step.timeoutMs,
      snapshot: keepsMemory(index) ? 'memory' : 'disk',
      needsMemorySnapshots: needsMemory.has(index),
      buildsIn: parent === -1 ? null : keyOf(parent),
      dependsOn: (ordered.prerequisites[index] ?? []).map(keyOf),
      cacheKey: step.cacheKey,
      runner: step.runner,
      runnerArgs: step.runnerArgs,
    });
  }
  const plan: Plan = { steps: planned, defaultImage, timeoutMs };
  return { ok: true, plan };
}

/** The steps for which `isSo`, with all whose disks they grow out of. The graph has no cycles. */
function withAncestors(parents: Int32Array, isSo: (index: number) => boolean): ReadonlySet<number> {
  const found = new Set<number>();
  for (const start of parents.keys())
    for (let at = isSo(start) ? start : -1; at !== -1 && !found.has(at); at = parents[at] ?? -1) found.add(at);
  return found;
}

function cycle({ steps }: PlanDraft, indices: readonly number[]): PlanRejection {
  const keys = indices.map((index) => steps[index]?.key ?? '');
  const first = keys[0] ?? '';
  const shown = keys.length > 8 ? [...keys.slice(0, 8).map(quote), '…'] : keys.map(quote);
  const path = [...shown, quote(first)].join(' → ');
  const message = `Steps wait for each other in a circle: ${path} (each needs the next). Take one of these dependencies out.`;
  return { ok: false, code: 'cycle', message, step: first };
}
