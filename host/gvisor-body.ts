import type { BodyParts, ContainerBody } from './container-driver.ts';
import type { GvisorRuntime } from './gvisor-launch.ts';
import { gvisorSnapshots, isSuspended } from './gvisor-snapshot.ts';
import { beginGvisor, type GvisorVessels, takeUpGvisor } from './gvisor-vessel.ts';
import { chooseRuntime } from './oci-probe.ts';
import { prepareRunsc } from './runsc-kit.ts';

export interface GvisorOptions {
  /** Where `runsc` is kept when none is installed that is new enough. */
  readonly kitsDir: string;
  /** Gets short lines while it is fetched. */
  readonly progress?: (line: string) => void;
}

/** How gVisor gets hold of what a capsule's programs ask of their kernel, faster first. That of KVM hangs on some machines. */
const platforms: readonly GvisorRuntime['platform'][] = ['systrap', 'ptrace'];

/**
 * Containers of gVisor: between a capsule and the host's kernel there is another, a program without rights, whose memory can be kept.
 * Throws `runtime_unavailable`.
 */
export async function openGvisorBody(parts: BodyParts, options: GvisorOptions): Promise<ContainerBody> {
  const { path, version } = await prepareRunsc(options);
  const runtimes = platforms.map((platform) => ({ path, platform, label: `runsc ${version} (${platform})` }));
  const contextOf = (runtime: GvisorRuntime) => {
    const vessels: GvisorVessels = { ...parts, runtime };
    const meet: ContainerBody['context']['meet'] = (layout, slot) => takeUpGvisor(vessels, layout, slot);
    return { ...vessels, begin: beginGvisor(vessels), meet, isAsleep: isSuspended };
  };
  const runtime = await chooseRuntime(parts, {
    ...{ runtimes, contextOf, keptIn: 'gvisor-probe.json' },
    hint: 'remove the kit of runsc, or use --driver container',
  });
  const context = contextOf(runtime);
  return { context, label: runtime.label, blanks: null, memory: gvisorSnapshots(context) };
}
