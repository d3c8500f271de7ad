import { createHash } from 'node:crypto';
import type { RunDefaults } from '../engine/assignment.ts';
import type { NewBuild } from '../engine/engine.ts';
import { startEngine } from '../engine/make-engine.ts';
import { drawsOf } from './draws.ts';
import { hostName, planeName, scheduleFaults } from './faults.ts';
import { openHistory } from './history.ts';
import { checkChanges, checkEnd, isQuiet } from './invariants.ts';
import { emptyLedger, enter, openLedgerReader } from './ledger.ts';
import { beginLife } from './life.ts';
import { databaseOf } from './life-database.ts';
import { blobsOf, effectsOf, loggerOf, notificationsOf, reportError, surroundingsOf } from './life-ports.ts';
import { hostOverNetwork } from './network.ts';
import { irOf } from './random-pipeline.ts';
import { faultsEndMs, keepsMemory, lastAskedMs, type RandomBuild, type Scenario } from './scenario.ts';
import { openHost, type SimulatedHost } from './simulated-host.ts';
import type { SqlSession } from './sql-session.ts';
import { firstMs, openTimeline } from './timeline.ts';
import { type Life, noStats, type Stats, type Violation, type World } from './world.ts';

/** Everything is over this much later than the last fault: a lost lease, a host that does not confirm an end, three attempts. */
const endsWithinMs = 180_000;

/** A build is there by then, or will not be. */
const answerMs = 500;

const organizationId = '00000000-0000-7000-8000-000000000001';
const pipelineId = '00000000-0000-7000-8000-000000000002';

const defaults: RunDefaults = {
  shape: { cpus: 1, memoryBytes: 2 ** 20, diskBytes: 2 ** 20, pids: 100 },
  image: 'minimal',
  jobTimeoutMs: 20_000,
  renderTimeoutMs: 10_000,
  graceMs: 300,
  maxOutputBytes: 2 ** 20,
  copyAfterMs: 100,
};

export interface Outcome {
  /** Null when every promise was kept. */
  readonly violation: Violation | null;
  readonly stats: Stats;
  /** Of every event: the same scenario always gives the same. */
  readonly hash: string;
  readonly lines: readonly string[];
}

/** Runs a scenario to its end, or to the first broken promise. */
export async function simulate(session: SqlSession, scenario: Scenario): Promise<Outcome> {
  await session.clear();
  const world = openWorld(session, scenario);
  await addPipeline(session);
  const hosts = scenario.hosts.map((traits, index) => {
    return openHost(world, { name: hostName(index), id: `00000000-0000-7000-9000-00000000000${index + 1}`, ...traits });
  });
  const sources = new Map(
    scenario.builds.map((build) => [sourceOf(scenario, build).digest, sourceOf(scenario, build).bytes]),
  );
  const planes = openPlanes(world, hosts, sources);
  scheduleFaults(world, { hosts, ...planes });
  for (const build of scenario.builds) scheduleBuild(world, build);
  await runToEnd(world, hosts);
  for (const life of [...world.lives]) life.end();
  const { violation, stats, history } = world;
  stats.events = world.timeline.eventCount;
  stats.simulatedMs = Math.round(world.timeline.nowMs - firstMs);
  return { violation, stats, hash: history.hash(), lines: history.lines };
}

async function runToEnd(world: World, hosts: readonly SimulatedHost[]): Promise<void> {
  const { scenario, timeline } = world;
  const deadlineMs = firstMs + Math.max(faultsEndMs(scenario), lastAskedMs(scenario)) + endsWithinMs;
  while (world.violation === null && (await timeline.step())) {
    if (world.unasked === 0 && isQuiet(world, hosts)) return checkEnd(world);
    if (timeline.nowMs > deadlineMs) return world.fail('I3', describeUnfinished(world, hosts));
  }
}

function openWorld(session: SqlSession, scenario: Scenario): World {
  const timeline = openTimeline();
  const history = openHistory(timeline);
  session.follow(() => timeline.nowMs);
  const reader = openLedgerReader(session);
  const ledger = emptyLedger();
  const world: World = {
    ...{ scenario, timeline, history, session, ledger },
    draws: drawsOf(scenario.seed),
    stats: { ...noStats },
    weather: { cuts: new Map(), share: 0, delayMs: 0, deaf: 0, effectsLost: 0 },
    records: new Map(),
    lives: new Set(),
    locks: new Map(),
    owed: new Set(),
    unasked: scenario.builds.length,
    violation: null,
    fail(invariant, message) {
      if (world.violation !== null) return;
      world.violation = { invariant, message };
      history.say('BROKEN', `${invariant}: ${message}`);
    },
    async observe(who) {
      const changes = await reader.read();
      checkChanges(world, changes, who);
      enter(ledger, changes);
    },
  };
  return world;
}

async function addPipeline(session: SqlSession): Promise<void> {
  await session.query(`insert into organizations (id, slug, name) values ($1, 'local', 'Local')`, [organizationId]);
  await session.query(
    `insert into pipelines (id, organization_id, slug, name, repository, default_branch) values ($1, $2, 'ci', 'ci', 'r', 'main')`,
    [pipelineId, organizationId],
  );
  await session.query('update watch set looked_at = clock_timestamp()', []);
}

function openPlanes(world: World, hosts: readonly SimulatedHost[], sources: Map<string, Uint8Array>) {
  const lives = new Map<number, Life>();
  const packedLayers = new Map<string, Uint8Array>();
  const start = async (plane: number): Promise<void> => {
    const life = beginLife(world, planeName(plane));
    lives.set(plane, life);
    world.history.say(life.name, 'starts');
    const engine = await startEngine({
      db: databaseOf(world, life),
      notifications: notificationsOf(world, life),
      effects: effectsOf(world, life),
      blobs: blobsOf(sources),
      layerBlobs: blobsOf(packedLayers),
      logger: loggerOf(world, life),
      defaults,
      ...surroundingsOf(world, life),
    });
    life.engine = engine;
    for (const host of hosts) engine.attachHost(hostOverNetwork(world, life, host));
  };
  const startPlane = (plane: number, afterMs: number) => void world.timeline.after(afterMs, () => start(plane));
  for (let plane = 0; plane < world.scenario.planes; plane += 1) startPlane(plane, plane * 10);
  return {
    startPlane,
    planeLife: (plane: number) => {
      const life = lives.get(plane);
      return life?.isAlive === true ? life : null;
    },
  };
}

function documentOf(scenario: Scenario, { steps, timeoutMs }: RandomBuild): string {
  return irOf(steps, { timeoutMs, keepsMemory: keepsMemory(scenario) });
}

function sourceOf(scenario: Scenario, build: RandomBuild): { bytes: Uint8Array; digest: string } {
  const bytes = Buffer.from(documentOf(scenario, build));
  return { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
}

/** Somebody asks any control plane for a build, and perhaps for its end. */
function scheduleBuild(world: World, build: RandomBuild): void {
  const { timeline, history } = world;
  const create = () => {
    const life = anyLife(world, build.name);
    if (life === null) return void timeline.after(500, create);
    history.say('user', `asks ${life.name} for ${build.name}`);
    // A request that dies with its control plane owes nothing.
    timeline.after(answerMs, () => {
      world.unasked -= 1;
    });
    life.engine?.createBuild(newBuild(world.scenario, build)).then(
      ({ build: row }) => {
        history.say('user', `has ${build.name} from ${life.name}`);
        if (!world.ledger.builds.has(row.id)) world.fail('I1', `${build.name} was confirmed and is not there`);
      },
      (error: unknown) => reportError(world, life.name, error),
    );
  };
  const cancel = () => {
    const known = [...world.ledger.builds.values()].find(({ name }) => name === build.name);
    const life = anyLife(world, `${build.name} cancel`);
    if (known === undefined || life === null) return;
    world.stats.cancels += 1;
    history.say('user', `asks ${life.name} to cancel ${build.name}`);
    life.engine?.cancelBuild(known.id).then(
      () => {
        const { status, finished } = world.ledger.builds.get(known.id) ?? known;
        const isTaken = status === 'canceling' || finished !== null;
        if (!isTaken) world.fail('I3', `the cancel of ${build.name} was confirmed and it is ${status}`);
      },
      (error: unknown) => reportError(world, life.name, error),
    );
  };
  timeline.after(build.atMs + 50, create);
  if (build.cancelAtMs !== null) timeline.after(build.cancelAtMs + 60, cancel);
}

function anyLife({ lives, draws }: World, name: string): Life | null {
  const [first, ...others] = [...lives].filter(({ engine }) => engine !== null);
  return first === undefined ? null : draws.pick([first, ...others], name);
}

function newBuild(scenario: Scenario, build: RandomBuild): NewBuild {
  const source = sourceOf(scenario, build);
  return {
    ...{ organizationId, pipelineId, trigger: 'api', createdBy: null, branch: 'main', commit: null, env: {} },
    message: build.name,
    sourceDigest: source.digest,
    pipelineIr: build.isRendered ? null : documentOf(scenario, build),
    renderSlug: null,
    stopOnFailure: build.stopOnFailure,
  };
}

function describeUnfinished({ ledger, owed }: World, hosts: readonly SimulatedHost[]): string {
  const open = [
    ...[...ledger.builds.values()]
      .filter(({ finished }) => finished === null)
      .map(({ name, status }) => `${name} is ${status}`),
    ...[...ledger.jobs.values()]
      .filter(({ finished }) => finished === null)
      .map(({ key, status }) => `${key} is ${status}`),
    ...[...ledger.leases.values()]
      .filter(({ status }) => status === 'held')
      .map(({ fence }) => `fence ${fence} is held`),
    ...ledger.layers.map(({ host, released }) => `a disk on ${host} is ${released ? 'released and there' : 'kept'}`),
    ...hosts.flatMap(({ name, leases }) => leases().map(({ fence }) => `${name} has fence ${fence}`)),
    ...[...owed].map(({ kind }) => `${kind} is owed`),
  ];
  return `everything was well for ${endsWithinMs / 1_000} s, and still: ${open.join('; ')}`;
}
