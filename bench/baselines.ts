import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readCgroupHierarchy } from '../host/cgroup-hierarchy.ts';
import { layoutOf, openInstallation } from '../host/container-layout.ts';
import { idMap } from '../host/id-map.ts';
import { ociConfig } from '../host/oci-bundle.ts';
import type { Capsules } from './capsules.ts';
import { runToEnd } from './program.ts';

/** `runc run` of `true` on the rootfs of the capsules, under the same user namespace, filters and limits. */
export interface RuncBaseline {
  run(name: string): Promise<void>;
  /** A container that waits for `exec`; resolves when it runs. */
  start(name: string): Promise<void>;
  /** `runc exec` of a program to its end; returns what it printed. */
  exec(name: string, argv: readonly string[]): Promise<string>;
  end(): Promise<void>;
}

/** The rootfs is one overlay mounted once: what `runc run` takes is the runtime's own time. */
export async function openRunc({ dataDir, imageDir, spec }: Capsules): Promise<RuncBaseline> {
  // The root of the container is an ordinary user out here and has to reach its mount point.
  const directory = `/run/caisson-bench-${process.pid}`;
  const [upper, work] = [join(dataDir, 'runc-upper'), join(dataDir, 'runc-work')];
  const [root, state] = [join(directory, 'root'), join(directory, 'state')];
  await mkdir(directory, { mode: 0o711 });
  await Promise.all([root, upper, work, state].map((path) => mkdir(path)));
  await runToEnd(['chown', `${idMap.baseId}:${idMap.baseId}`, upper]);
  const options = `lowerdir=${imageDir},upperdir=${upper},workdir=${work}`;
  await runToEnd(['mount', '-t', 'overlay', '-o', options, 'overlay', root]);
  const resolvConfPath = join(directory, 'resolv.conf');
  await writeFile(resolvConfPath, '');
  const installation = await openInstallation(dataDir, '/run/caisson');
  const { mode } = await readCgroupHierarchy();
  const runc = ['runc', '--root', state];
  const cgroupPath = (name: string) => `${installation.cgroupPath}/${name}`;
  const bundles = new Map<string, string>();
  const waiting = new Map<string, Promise<unknown>>();
  return {
    async run(name) {
      const bundle = bundles.get(name) ?? (await makeBundle(name, ['/bin/true']));
      bundles.set(name, bundle);
      await runToEnd([...runc, 'run', '--bundle', bundle, name]);
    },
    async start(name) {
      const bundle = await makeBundle(name, ['/bin/sleep', 'infinity']);
      // It ends when it is killed.
      waiting.set(
        name,
        runToEnd([...runc, 'run', '--bundle', bundle, name]).catch(() => {}),
      );
      while (!(await isRunning(name))) await delay(10);
    },
    exec: (name, argv) => runToEnd([...runc, 'exec', name, ...argv]),
    async end() {
      for (const [name, ended] of waiting) {
        await runToEnd([...runc, 'kill', name, 'KILL']).catch(() => {});
        await ended;
      }
      await runToEnd(['umount', root]);
      await rm(directory, { recursive: true, force: true });
    },
  };

  async function isRunning(name: string): Promise<boolean> {
    const said = await runToEnd([...runc, 'state', name]).catch(() => '{}');
    return JSON.parse(said).status === 'running';
  }

  async function makeBundle(name: string, args: readonly string[]): Promise<string> {
    const bundle = join(directory, `bundle-${name}`);
    await mkdir(bundle);
    const options = {
      layout: { ...layoutOf(installation, name), bundleDir: bundle, rootDir: root, cgroupPath: cgroupPath(name) },
      ...{ rootDir: root, spec: spec(name), agentPath: '/bin/busybox', resolvConfPath, networkNamespace: null },
      ...{ cgroupMode: mode, limitsSwap: false, maxOpenFiles: 1_024 },
    };
    const config = ociConfig(options) as { process: object };
    await Promise.all([
      writeFile(join(bundle, 'hostname'), `${name}\n`),
      writeFile(join(bundle, 'hosts'), '127.0.0.1 localhost\n'),
      writeFile(join(bundle, 'config.json'), JSON.stringify({ ...config, process: { ...config.process, args } })),
    ]);
    return bundle;
  }
}
