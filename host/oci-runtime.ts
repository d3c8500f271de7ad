import type { VesselLayout } from './container-layout.ts';
import { programVersion } from './program-version.ts';
import type { RunBriefly } from './resident-programs.ts';

export interface OciRuntime {
  readonly name: 'crun' | 'runc';
  /** As shown to people: `runc 1.1.5`. */
  readonly label: string;
}

/** In order of preference: crun starts faster, where it works at all. */
const runtimeNames = ['crun', 'runc'] as const;

/** The runtimes installed on this machine, preferred first. */
export async function installedRuntimes(run: RunBriefly): Promise<readonly OciRuntime[]> {
  const versionOf = (name: string) => programVersion([name], run).catch(() => null);
  const found = await Promise.all(runtimeNames.map(async (name) => ({ name, version: await versionOf(name) })));
  return found.flatMap(({ name, version }) => (version === null ? [] : [{ name, label: `${name} ${version}` }]));
}

interface StartContext {
  readonly runtime: OciRuntime;
  /** The agent, which makes the socket. */
  readonly toolPath: string;
  readonly run: RunBriefly;
}

/**
 * Starts the container of a bundle and returns once its init runs. The agent's listening socket is made out here, where nothing inside
 * can reach it, and inherited by the init as descriptor 3. The runtime's own files are kept in the vessel's run directory, so that
 * removing this directory is all the cleaning they need.
 */
export async function startContainer(
  { runtime, toolPath, run }: StartContext,
  { layout, timeoutMs }: { readonly layout: VesselLayout; readonly timeoutMs: number },
): Promise<void> {
  const listen = [toolPath, 'listen', layout.socketPath, '--'];
  const options = ['--preserve-fds', '1', '--detach', '--bundle', layout.bundleDir, '--pid-file', layout.pidFile];
  const argv = [...listen, runtime.name, '--root', layout.runtimeDir, 'run', ...options, layout.vesselId];
  // With /dev/null as its input runc gives the host's own device to the capsule's root.
  await run(argv, { timeoutMs, stdin: '' });
}
