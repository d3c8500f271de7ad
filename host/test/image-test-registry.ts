import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { gzipSync } from 'node:zlib';
import { runProgram } from '../run-program.ts';

/** The package is not among those set-up installs: on a machine with systemd it would start a registry for everyone. */
export const registryProblem =
  spawnSync('docker-registry', ['--version']).status === 0
    ? null
    : 'docker-registry is not installed; apt-get install docker-registry';

export interface TestRegistry {
  /** `127.0.0.1:port` */
  readonly host: string;
  /** File in which the registry keeps a blob. */
  blobFile(digest: string): string;
  push(layout: string, name: string): Promise<void>;
  stop(): Promise<void>;
}

/** A real registry on a free loopback port with its files in `dir`. */
export async function startRegistry(dir: string): Promise<TestRegistry> {
  const config = join(dir, 'config.json');
  await writeFile(
    config,
    JSON.stringify({
      version: '0.1',
      log: { level: 'info', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(dir, 'blobs') } },
      http: { addr: '127.0.0.1:0' },
    }),
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const host = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', (line) => {
        const found = /listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1];
        if (found !== undefined) resolve(found);
      });
    child.once('exit', (code) => reject(new Error(`the registry exited with ${code}`)));
  });
  return {
    host,
    blobFile: (digest) => {
      const hex = digest.replace('sha256:', '');
      return join(dir, 'blobs/docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
    },
    push: async (layout, name) => {
      const target = `docker://${host}/${name}`;
      await runProgram([
        'skopeo',
        'copy',
        '--insecure-policy',
        '--dest-tls-verify=false',
        `oci:${layout}:image`,
        target,
      ]);
    },
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** Writes an image by hand, layer by layer, so that it can hold what no tool would put into one. Returns its manifest's digest. */
export async function writeLayout(
  dir: string,
  layers: readonly Uint8Array[],
  env: readonly string[] = [],
): Promise<string> {
  await mkdir(join(dir, 'blobs/sha256'), { recursive: true });
  await writeFile(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const blob = async (mediaType: string, bytes: Uint8Array) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(dir, 'blobs/sha256', hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (mediaType: string, value: unknown) => blob(mediaType, Buffer.from(JSON.stringify(value)));
  const oci = 'application/vnd.oci.image';
  const config = await json(`${oci}.config.v1+json`, {
    architecture: 'amd64',
    os: 'linux',
    config: { Env: env },
    rootfs: {
      type: 'layers',
      diff_ids: layers.map((tar) => `sha256:${createHash('sha256').update(tar).digest('hex')}`),
    },
  });
  const zipped = await Promise.all(layers.map((tar) => blob(`${oci}.layer.v1.tar+gzip`, gzipSync(tar))));
  const mediaType = `${oci}.manifest.v1+json`;
  const manifest = await json(mediaType, { schemaVersion: 2, mediaType, config, layers: zipped });
  const annotations = { 'org.opencontainers.image.ref.name': 'image' };
  await writeFile(
    join(dir, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
  return manifest.digest;
}
