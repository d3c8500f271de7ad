import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readHostAddress } from '@caisson/contracts/host-address';
import { connectHost } from '@caisson/contracts/host-client';
import { type HostConfig, readHostConfig } from '@caisson/host/config';
import type { StartedHost } from '@caisson/host/start-host';
import type { Config } from '@caisson/server/config';
import type { ControlPlane, ControlPlaneOptions } from '@caisson/server/control-plane';
import { openLog } from '@caisson/server/open-log';
import { type OpenPostgres, openPostgres } from '@caisson/server/open-postgres';
import type { PostgresLog } from '@caisson/server/postgres-supervisor';
import type { CliConfig } from './config.ts';
import { readToken, removeServerRecord, renderTools, writeServerRecord, writeToken } from './installation.ts';

interface LocalOptions {
  readonly config: Config;
  readonly cli: CliConfig;
  readonly progress: (line: string) => void;
  /** Where hosts answer that run in processes of their own; none starts one in this process. */
  readonly hosts: readonly string[];
  /** It is for one build alone: less is kept ready, which has to be removed again. */
  readonly isBrief: boolean;
  /** Aborting gives up preparing images. */
  readonly signal: AbortSignal;
}

/** A control plane with its host in this process. */
export interface Local {
  readonly url: string;
  readonly token: string;
  readonly isTokenFresh: boolean;
  readonly logPath: string;
  readonly hostLabel: string;
  readonly controlPlane: ControlPlane;
  /** Ends running jobs too when `end` is set; otherwise their capsules run on for the next process. */
  close(options: { end: boolean }): Promise<void>;
}

const defaultImage = 'minimal';
const briefPoolSize = 2;

/** Starts everything on one data directory; what was started is closed again when a later part fails. */
export async function startLocal({ config, cli, progress, hosts, isBrief, signal }: LocalOptions): Promise<Local> {
  const { dataDir } = config;
  // Before anything is started.
  const addresses = hosts.map((text) => readHostAddress(text, cli.hostToken));
  const hostConfig = readHostConfig(cli.environment);
  await mkdir(join(dataDir, 'logs'), { recursive: true, mode: 0o700 });
  const logPath = join(dataDir, 'logs', 'caisson.log');
  const logger = await openLog(logPath);
  const failed = new AbortController();
  const { postgres } = await launchPostgres(config, { log: logger, progress });
  // Beside each other, since neither needs the other to start.
  const parts = await Promise.allSettled([
    openControlPlane({ config, logger, postgres }),
    hosts.length === 0
      ? openHost({ dataDir, hostConfig, progress, isBrief, signal: AbortSignal.any([signal, failed.signal]) })
      : null,
  ]);
  const [controlPlane, opened] = parts.map((part) => (part.status === 'fulfilled' ? part.value : null)) as [
    ControlPlane | null,
    OpenedHost | null,
  ];
  const host = opened?.host ?? null;
  const close = async ({ end }: { end: boolean }) => {
    await removeServerRecord(dataDir, process.pid);
    const hostEnd = host?.close({ end }) ?? Promise.resolve();
    hostEnd.catch(() => {});
    // What still runs has last words for the control plane; without any, both end at the same time.
    const leases = (await host?.heartbeat())?.leases ?? [];
    if (leases.length > 0) await hostEnd.catch(() => {});
    const ends = await Promise.allSettled([hostEnd, controlPlane?.close()]);
    const reason = firstReason(ends);
    if (reason !== undefined) throw reason;
  };
  try {
    if (controlPlane === null || parts[1].status === 'rejected') throw firstReason(parts);
    // Before it has prepared everything: what it runs from before would be lost if it was not heard from soon.
    if (host !== null) controlPlane.attachHost(host);
    await opened?.prepared;
    for (const address of addresses) controlPlane.attachHost(connectHost(address));
    const token = await keepToken(config, controlPlane);
    await writeServerRecord(dataDir, { url: controlPlane.url, pid: process.pid });
    return {
      url: controlPlane.url,
      token,
      isTokenFresh: controlPlane.freshToken !== null,
      logPath,
      hostLabel: host === null ? hosts.join(', ') : (await host.describe()).driver.runtime,
      controlPlane,
      close,
    };
  } catch (error) {
    failed.abort();
    await close({ end: true }).catch(() => {});
    throw error;
  }
}

function firstReason(parts: readonly PromiseSettledResult<unknown>[]): unknown {
  return parts.find((part) => part.status === 'rejected')?.reason;
}

/**
 * PostgreSQL as it starts. Resolves when it does so without this process, which from then on has modules to load and would be slow to
 * help it.
 */
async function launchPostgres(
  config: Config,
  options: { log: PostgresLog; progress: (line: string) => void },
): Promise<{ postgres: Promise<OpenPostgres> }> {
  const launched = Promise.withResolvers<void>();
  const postgres = openPostgres(config, { ...options, onLaunch: launched.resolve });
  await Promise.race([launched.promise, postgres.catch(() => {})]);
  return { postgres };
}

async function openControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { startControlPlane } = await import('@caisson/server/control-plane');
  return startControlPlane(options);
}

interface OpenedHost {
  readonly host: StartedHost;
  /** The image that jobs start from unless they name another one, and the tools, are there. */
  readonly prepared: Promise<void>;
}

type HostOptions = Pick<LocalOptions, 'progress' | 'isBrief' | 'signal'> & {
  readonly dataDir: string;
  readonly hostConfig: HostConfig;
};

async function openHost({ dataDir, hostConfig, progress, isBrief, signal }: HostOptions): Promise<OpenedHost> {
  const { startHost } = await import('@caisson/host/start-host');
  const host = await startHost({
    dataDir: join(dataDir, 'host'),
    config: hostConfig,
    tools: renderTools,
    progress,
    ...(isBrief ? { networkPoolSize: briefPoolSize, blankPoolSize: briefPoolSize } : {}),
  });
  if (host.networkProblem !== null) progress(`warning: ${host.networkProblem}`);
  const prepared = host.prepare(defaultImage, progress, signal);
  prepared.catch(() => {});
  return { host, prepared };
}

/** The token for commands on this machine, kept in the data directory. */
async function keepToken({ dataDir, bootstrapToken }: Config, controlPlane: ControlPlane): Promise<string> {
  const known = await readToken(dataDir);
  const token = await controlPlane.localToken(bootstrapToken ?? controlPlane.freshToken ?? known);
  if (token !== known) await writeToken(dataDir, token);
  return token;
}
