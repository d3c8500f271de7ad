import { repositoryDir } from '../cli/installation.ts';
import { needsRoot } from './capsules.ts';
import { runToEnd } from './program.ts';
import type { Bench, Measured, Row } from './row.ts';
import { noSamples, type Samples, sample, timeMs } from './statistics.ts';
import { openWarmCli } from './warm-cli.ts';

const running = 'with a Caisson that runs (`caisson up`)';
const alone = 'that starts and ends one for itself';

/** The first example as a person types it. */
export const hello: Row = {
  id: 'hello',
  title: '`caisson run examples/hello` warm, wall minus the commands’ own time',
  goals: [
    { series: running, figure: 'p50', bound: '≤', limit: 1_500 },
    {
      ...{ series: alone, figure: 'p50', bound: '≤', limit: 1_500 },
      whenMissed: (p50Of) =>
        `of it ${p50Of(running)} are the build; the rest starts and ends PostgreSQL, host and control plane`,
    },
  ],
  obstacle: needsRoot,
  measure: measureHello,
};

/** How fast the command line is there. */
export const startUp: Row = {
  id: 'start-up',
  title: '`./caisson version`, warm',
  goals: [{ series: './caisson version', figure: 'p50', bound: '<', limit: 300 }],
  measure: measureStartUp,
};

/** Its forks sleep this long, both at the same time; whatever else its commands do counts as ours. */
const ownMs = 300;

async function measureHello(bench: Bench): Promise<Measured> {
  const [lone, beside] = [noSamples(), noSamples()];
  const cli = await openWarmCli(bench.say);
  const once = (samples: Samples) =>
    sample(samples, async () => {
      let said = '';
      const ms = await timeMs(async () => {
        said = await cli.run(['run', '--logs', 'examples/hello']);
      });
      if (!said.includes('hello from a caisson')) throw new Error(`it did not greet: ${said.slice(-200)}`);
      return ms - ownMs;
    });
  try {
    for (let round = 0; round < bench.count(15) && !bench.signal.aborted; round++) await once(lone);
    const up = await cli.up();
    await once(noSamples());
    for (let round = 0; round < bench.count(15) && !bench.signal.aborted; round++) await once(beside);
    await up.end();
  } finally {
    await cli.end();
  }
  return {
    series: [
      { name: running, role: 'ours', unit: 'ms', samples: beside },
      { name: alone, role: 'ours', unit: 'ms', samples: lone },
    ],
    notes: [
      `From the shell: pack the source, upload it, render the pipeline in a capsule, four jobs in three generations, logs shown. The commands’ own time is the ${ownMs} ms its two forks sleep.`,
    ],
  };
}

async function measureStartUp(bench: Bench): Promise<Measured> {
  const [ours, node] = [noSamples(), noSamples()];
  const options = { cwd: repositoryDir };
  await runToEnd(['./caisson', 'version'], options);
  for (let round = 0; round < bench.count(50) && !bench.signal.aborted; round++) {
    await sample(ours, () =>
      timeMs(async () => {
        const said = await runToEnd(['./caisson', 'version'], options);
        if (!said.startsWith('caisson ')) throw new Error(`it said ${said}`);
      }),
    );
    await sample(node, () => timeMs(() => runToEnd([process.execPath, '-e', '0'], options)));
  }
  return {
    series: [
      { name: './caisson version', role: 'ours', unit: 'ms', samples: ours },
      { name: 'node -e 0', role: 'baseline', unit: 'ms', samples: node },
    ],
    notes: ['A process each, from start to exit.'],
  };
}
