import { readConfig } from '@caisson/server/config';
import type { Command } from 'commander';
import { cannotListen } from '../cli-error.ts';
import { withDriver } from '../config.ts';
import type { CliContext } from '../context.ts';
import { exitCodes } from '../exit-codes.ts';
import { aborted, onStop } from '../on-stop.ts';
import { collect, dataDirOption, driverOption, readPort } from '../options.ts';
import { print } from '../print.ts';
import { makeProgress } from '../progress.ts';
import { type Local, startLocal } from '../start-local.ts';
import { readVersion } from '../version.ts';

interface UpOptions {
  readonly port?: string;
  readonly dataDir?: string;
  readonly driver?: string;
  readonly host?: readonly string[];
}

const drainMs = 30_000;

/** `caisson up`: control plane and host in one process until Ctrl-C. */
export function registerUp(program: Command, context: CliContext): void {
  program
    .command('up')
    .summary('run Caisson on this machine')
    .description(
      'Runs a control plane and a host in one process.\n\nThe first Ctrl-C gives out no more jobs, waits up to 30 s for those that run, and ends the rest (they start again at the next `up`); a second one ends them at once.',
    )
    .option('-p, --port <number>', 'port of the API (default 4710, or CAISSON_PORT)', readPort)
    .addOption(dataDirOption)
    .addOption(driverOption)
    .option(
      '--host <where>',
      'use a host started with `caisson host` instead, by socket or address:port; may be repeated',
      collect,
    )
    .action((options: UpOptions) => up(context, options));
}

async function up(context: CliContext, options: UpOptions): Promise<void> {
  const { environment } = context.config;
  const config = readConfig({
    ...environment,
    ...(options.port === undefined ? {} : { CAISSON_PORT: options.port }),
    ...(options.dataDir === undefined ? {} : { CAISSON_DATA_DIR: options.dataDir }),
  });
  const stops = onStop();
  const { say: progress, done } = makeProgress(context);
  const started = startLocal({
    config,
    cli: withDriver(context.config, options.driver),
    progress,
    hosts: options.host ?? [],
    isBrief: false,
    signal: stops.first,
  });
  const local = await started.catch((error: unknown) => {
    if (stops.first.aborted) return null;
    if (error instanceof Error && 'syscall' in error && error.syscall === 'listen') {
      throw cannotListen(`${config.address}:${config.port}`, error, 'name another port with --port');
    }
    throw error;
  });
  done();
  if (local === null) {
    context.exit(exitCodes.canceled);
    return;
  }
  announce(context, local, config.dataDir);
  await aborted(stops.first);
  await drain(context, local, stops.second);
}

function announce(context: CliContext, local: Local, dataDir: string): void {
  const rows = [
    ['API', local.url],
    ['token', local.isTokenFresh ? `${local.token}  (new; shown only now)` : 'as before'],
    ['host', local.hostLabel],
    ['data', dataDir],
    ['log', local.logPath],
  ];
  const lines = rows.map(([name, value]) => `  ${String(name).padEnd(6)} ${value}\n`);
  const event = { kind: 'up', url: local.url, token: local.token, data_dir: dataDir };
  print(context, event, `Caisson ${readVersion()} is up.\n${lines.join('')}Ctrl-C stops it.\n`);
}

async function drain({ stderr }: CliContext, local: Local, atOnce: AbortSignal): Promise<void> {
  await local.controlPlane.drain();
  const isIdle = await local.controlPlane.idle(AbortSignal.any([AbortSignal.timeout(1), atOnce]));
  if (!isIdle) {
    stderr.write(`waiting up to ${drainMs / 1000} s for the jobs that run; Ctrl-C ends them now\n`);
    await local.controlPlane.idle(AbortSignal.any([AbortSignal.timeout(drainMs), atOnce]));
  }
  stderr.write('stopping\n');
  await local.close({ end: true });
}
