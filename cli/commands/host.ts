import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readHostAddress } from '@caisson/contracts/host-address';
import { serveHostApi } from '@caisson/contracts/host-server';
import { readHostConfig } from '@caisson/host/config';
import { startHost } from '@caisson/host/start-host';
import { readConfig } from '@caisson/server/config';
import { type Command, Option } from 'commander';
import { cannotListen, usageError } from '../cli-error.ts';
import { withDriver } from '../config.ts';
import type { CliContext } from '../context.ts';
import { renderTools } from '../installation.ts';
import { aborted, onStop } from '../on-stop.ts';
import { dataDirOption, driverOption } from '../options.ts';
import { print } from '../print.ts';

interface HostOptions {
  readonly dataDir?: string;
  readonly driver?: string;
  readonly socket?: string;
  readonly listen?: string;
}

/** `caisson host`: a host in a process of its own, so that control planes can come and go. */
export function registerHost(program: Command, context: CliContext): void {
  program
    .command('host')
    .summary('run a host alone')
    .description(
      'Runs a host alone and answers control planes (`caisson up --host <where>`) on a unix socket or a port.',
    )
    .addOption(dataDirOption)
    .addOption(driverOption)
    .option('--socket <path>', 'where to listen (default <data-dir>/host.sock)')
    .addOption(
      new Option('--listen <address:port>', 'answer there instead; needs CAISSON_HOST_TOKEN on both sides').conflicts(
        'socket',
      ),
    )
    .action(async (options: HostOptions) => {
      const { environment } = context.config;
      const dataDir = options.dataDir ?? readConfig(environment).dataDir;
      const where = options.listen ?? options.socket ?? join(dataDir, 'host.sock');
      const address = readHostAddress(where, context.config.hostToken);
      if (options.listen !== undefined && address.kind === 'socket') {
        throw usageError(`--listen ${where}: it must be address:port`);
      }
      const stops = onStop();
      await mkdir(dataDir, { recursive: true });
      const host = await startHost({
        dataDir: join(dataDir, 'host'),
        config: readHostConfig(withDriver(context.config, options.driver).environment),
        tools: renderTools,
        progress: (line) => context.stderr.write(`${line}\n`),
      });
      try {
        const server = await serveHostApi(host, address).catch((error: unknown) => {
          throw cannotListen(where, error, 'name another place with --socket or --listen');
        });
        const event = { kind: 'host', [address.kind === 'socket' ? 'socket' : 'address']: where };
        print(context, event, `listening on ${where}\n`);
        await aborted(stops.first);
        await server.close();
      } finally {
        // Its capsules run on: the next host on this data directory takes them up.
        await host.close({ end: false });
      }
    });
}
