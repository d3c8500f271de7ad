import { type CiClient, createCiClient } from '@caisson/contracts/ci-client';
import { readConfig } from '@caisson/server/config';
import { CliError, usageError } from './cli-error.ts';
import type { CliConfig } from './config.ts';
import { exitCodes } from './exit-codes.ts';
import { readServerRecord, readToken } from './installation.ts';

const probeTimeoutMs = 2_000;

/** A control plane this command can call. */
export interface OpenServer {
  readonly url: string;
  readonly token: string;
  readonly client: CiClient;
  close(): Promise<void>;
}

/**
 * The control plane to talk to: the one CAISSON_URL names, else the one that runs on this data directory, else null. Throws when
 * there is one but no token for it.
 */
export async function findServer(cli: CliConfig): Promise<OpenServer | null> {
  if (cli.url !== null) {
    if (/^https?:\/\//.test(cli.url) && URL.canParse(cli.url)) return connectTo(cli.url, cli.token);
    throw usageError(`CAISSON_URL is ${cli.url}; it must begin with http:// or https://`);
  }
  const { dataDir } = readConfig(cli.environment);
  const record = await readServerRecord(dataDir).catch(() => null);
  if (record === null || !(await isUp(record.url))) return null;
  return connectTo(record.url, cli.token ?? (await readToken(dataDir)));
}

/** Like `findServer`, for commands that need one that runs. */
export async function requireServer(cli: CliConfig): Promise<OpenServer> {
  const server = await findServer(cli);
  if (server !== null) return server;
  throw new CliError('no Caisson runs here', {
    exitCode: exitCodes.machine,
    code: 'no_server',
    hint: 'start one with `caisson up`, or name one in CAISSON_URL',
  });
}

export function connectTo(url: string, token: string | null): OpenServer {
  if (token === null) {
    throw new CliError(`no token for ${url}`, {
      exitCode: exitCodes.auth,
      code: 'unauthorized',
      hint: 'put a personal token into CAISSON_TOKEN',
    });
  }
  return { url, token, client: createCiClient({ baseUrl: url, token }), close: async () => {} };
}

async function isUp(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(probeTimeoutMs) }).catch(() => null);
  await answer?.body?.cancel();
  return answer !== null;
}
