import type { Fault } from './scenario.ts';
import type { SimulatedHost } from './simulated-host.ts';
import { cutKey, type Life, type World } from './world.ts';

/** What faults happen to. */
export interface FaultTargets {
  readonly hosts: readonly SimulatedHost[];
  /** Its process at the moment, or null. */
  planeLife(plane: number): Life | null;
  /** Has a plane start again. */
  startPlane(plane: number, afterMs: number): void;
}

/** Has the faults of the scenario happen at their times. */
export function scheduleFaults(world: World, targets: FaultTargets): void {
  for (const fault of world.scenario.faults) {
    world.timeline.after(fault.atMs, () => {
      world.history.say('fault', describeFault(fault));
      happen(world, targets, fault);
    });
  }
}

function happen(world: World, targets: FaultTargets, fault: Fault): void {
  const { timeline, weather, draws, stats } = world;
  switch (fault.kind) {
    case 'crash_plane':
      crashPlane(world, targets, fault);
      return;
    case 'freeze_plane':
      targets.planeLife(fault.plane)?.freeze(fault.forMs);
      return;
    case 'cut_database': {
      const kind = fault.isDone ? 'cut_behind' : 'cut';
      const life = targets.planeLife(fault.plane);
      const say = () => world.history.say(life?.name ?? '', 'loses its connection to the database');
      life?.doom.push({ kind, statementsLeft: fault.afterStatements, happen: say });
      return;
    }
    case 'lose_lock': {
      const name = `host:${targets.hosts[fault.host]?.id}`;
      const held = world.locks.get(name);
      world.locks.delete(name);
      held?.life.after(fault.heardAfterMs, held.lose);
      return;
    }
    case 'deafen':
      weather.deaf += 1;
      timeline.after(fault.forMs, () => {
        weather.deaf -= 1;
      });
      return;
    case 'lose_effects':
      weather.effectsLost += 1;
      timeline.after(fault.forMs, () => {
        weather.effectsLost -= 1;
      });
      return;
    case 'partition':
      stats.partitions += 1;
      partition(world, targets, fault);
      return;
    case 'crash_host':
      targets.hosts[fault.host]?.crash(fault.downMs);
      return;
    case 'wipe_host':
      targets.hosts[fault.host]?.wipe();
      return;
    case 'bad_network': {
      weather.share = fault.share;
      weather.delayMs = fault.delayMs;
      timeline.after(fault.forMs + draws.unit('weather') * 10, () => {
        weather.share = 0;
        weather.delayMs = 0;
      });
    }
  }
}

/** Its locks fall when PostgreSQL notices that the connection is gone. */
function crashPlane(world: World, targets: FaultTargets, fault: Extract<Fault, { kind: 'crash_plane' }>): void {
  const life = targets.planeLife(fault.plane);
  if (life === null) return;
  const crash = () => {
    world.history.say(life.name, 'crashes');
    world.stats.crashes += 1;
    life.end();
    for (const [name, held] of world.locks) {
      if (held.life !== life) continue;
      world.timeline.after(world.draws.unit('locks fall') * 1_000, () => {
        if (world.locks.get(name) === held) world.locks.delete(name);
      });
    }
    targets.startPlane(fault.plane, fault.downMs);
  };
  life.doom.push({ kind: 'crash', statementsLeft: fault.afterStatements, happen: crash });
}

function partition(
  { timeline, weather, history }: World,
  { hosts }: FaultTargets,
  fault: Extract<Fault, { kind: 'partition' }>,
): void {
  const host = hosts[fault.host];
  if (host === undefined) return;
  const key = cutKey(planeName(fault.plane), host.name);
  weather.cuts.set(key, (weather.cuts.get(key) ?? 0) + 1);
  timeline.after(fault.forMs, () => {
    history.say('fault', `${key}: the partition heals`);
    const reasons = (weather.cuts.get(key) ?? 1) - 1;
    if (reasons === 0) weather.cuts.delete(key);
    else weather.cuts.set(key, reasons);
  });
}

export function planeName(plane: number): string {
  return `plane-${'ABC'[plane] ?? plane}`;
}

export function hostName(host: number): string {
  return `host-${host + 1}`;
}

function describeFault(fault: Fault): string {
  const { kind, atMs: _atMs, ...rest } = fault;
  const where = [
    ...('plane' in rest ? [planeName(rest.plane)] : []),
    ...('host' in rest ? [hostName(rest.host)] : []),
    ...Object.entries(rest).flatMap(([name, value]) =>
      name === 'plane' || name === 'host' ? [] : [`${name} ${value}`],
    ),
  ];
  return `${kind} ${where.join(', ')}`;
}
