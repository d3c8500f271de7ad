import type { Scenario } from './scenario.ts';
import type { Outcome } from './simulate.ts';

/** A scenario from which nothing can be taken without the same promise being kept again, and what happened in it. */
export interface Shrunk {
  readonly scenario: Scenario;
  readonly outcome: Outcome;
  readonly runs: number;
}

/**
 * Takes out of a failing scenario whatever it fails without: faults, builds, steps, control planes, then what is special about the rest.
 * Runs it again for every attempt, as long as something goes.
 */
export async function shrink(
  run: (scenario: Scenario) => Promise<Outcome>,
  failing: { readonly scenario: Scenario; readonly outcome: Outcome },
  mostRuns: number,
): Promise<Shrunk> {
  let { scenario, outcome } = failing;
  const invariant = outcome.violation?.invariant;
  let runs = 0;
  for (let hasShrunk = true; hasShrunk; ) {
    hasShrunk = false;
    for (const smaller of smallerThan(scenario)) {
      if (runs >= mostRuns) return { scenario, outcome, runs };
      runs += 1;
      const next = await run(smaller);
      if (next.violation?.invariant !== invariant) continue;
      scenario = smaller;
      outcome = next;
      hasShrunk = true;
      break;
    }
  }
  return { scenario, outcome, runs };
}

/** Scenarios with one thing less, those that lose most first. */
function* smallerThan(scenario: Scenario): Iterable<Scenario> {
  const { builds, faults, planes, hosts } = scenario;
  for (const index of builds.keys()) if (builds.length > 1) yield { ...scenario, builds: builds.toSpliced(index, 1) };
  for (const index of faults.keys()) yield { ...scenario, faults: faults.toSpliced(index, 1) };
  if (planes > 1)
    yield {
      ...scenario,
      planes: planes - 1,
      faults: faults.filter((fault) => !('plane' in fault) || fault.plane < planes - 1),
    };
  if (hosts.length > 1) {
    const last = hosts.length - 1;
    yield {
      ...scenario,
      hosts: hosts.slice(0, -1),
      faults: faults.filter((fault) => !('host' in fault) || fault.host < last),
    };
  }
  for (const [index, build] of builds.entries()) {
    const withBuild = (changed: Scenario['builds'][number]): Scenario => ({
      ...scenario,
      builds: builds.with(index, changed),
    });
    for (const step of build.steps.keys()) {
      if (build.steps.length > 1) yield withBuild({ ...build, steps: withoutStep(build.steps, step) });
    }
    if (build.cancelAtMs !== null) yield withBuild({ ...build, cancelAtMs: null });
    if (build.timeoutMs !== null) yield withBuild({ ...build, timeoutMs: null });
    if (build.isRendered) yield withBuild({ ...build, isRendered: false });
    if (build.stopOnFailure) yield withBuild({ ...build, stopOnFailure: false });
    for (const [place, step] of build.steps.entries()) {
      if (step.script.lines > 0) {
        yield withBuild({
          ...build,
          steps: build.steps.with(place, { ...step, script: { ...step.script, lines: 0 } }),
        });
      }
    }
  }
}

type Steps = Scenario['builds'][number]['steps'];

/** What stood behind it moves up; what needed it does without. */
function withoutStep(steps: Steps, removed: number): Steps {
  const moved = (place: number): number => (place > removed ? place - 1 : place);
  return steps.toSpliced(removed, 1).map((step) => ({
    ...step,
    buildsIn: step.buildsIn === null || step.buildsIn === removed ? null : moved(step.buildsIn),
    needs: step.needs.filter((needed) => needed !== removed).map(moved),
  }));
}
