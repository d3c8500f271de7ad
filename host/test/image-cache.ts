import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { withFileLock } from '../image-lock.ts';
import { createImageStore } from '../image-store.ts';
import { createLayerStore } from '../layer-disk.ts';
import { runProgram } from '../run-program.ts';

/**
 * Puts a built image (`minimal` unless told otherwise) into a data directory that no store has open yet. It is built once per
 * machine, kept in `caisson-test-cache` below the temporary directory, and comes as hard links. Returns the layer's id.
 */
export async function seedImage(dataDir: string, name = 'minimal'): Promise<string> {
  const cacheDir = join(tmpdir(), 'caisson-test-cache');
  await mkdir(cacheDir, { recursive: true });
  const { signal } = new AbortController();
  return withFileLock(join(cacheDir, 'lock'), signal, async () => {
    const layers = await createLayerStore({ dataDir: cacheDir, budgetBytes: 1e12 });
    const images = await createImageStore({ dataDir: cacheDir, layers });
    const { layerId } = await images.resolve(name, () => {}, signal);
    await layers.collect();
    const layerDir = dirname(layers.directories([layerId])[0] ?? '');
    for (const part of ['layers', 'images']) await mkdir(join(dataDir, part), { recursive: true, mode: 0o711 });
    await runProgram(['cp', '--archive', '--link', layerDir, join(dataDir, 'layers')]);
    await runProgram(['cp', '--recursive', `${join(cacheDir, 'images')}/.`, join(dataDir, 'images')]);
    return layerId;
  });
}
