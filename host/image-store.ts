import { randomUUID } from 'node:crypto';
import { crashPoint } from '@caisson/contracts/crash-point';
import { type LocalCertificates, readLocalCertificates } from './image-certificates.ts';
import { buildDebian, type DebianBuild, type DebianRecipe, debianRecipe, recipeKey } from './image-debian.ts';
import { createFlights, type Flights } from './image-flights.ts';
import { withFileLock } from './image-lock.ts';
import { createImageRecords, type ImageRecord, type ImageRecords } from './image-record.ts';
import { type ImageReference, parseImageReference } from './image-reference.ts';
import { fetchImage, inspectImage, isAbsent } from './image-registry.ts';
import type { FillLayer } from './layer-add.ts';
import type { DiskLayers } from './layer-disk.ts';
import type { ImageStore, ResolvedImage } from './layer-store.ts';
import type { TarLimits } from './layer-tar.ts';

export interface ImageStoreOptions {
  /** What is known of images lives in `<dataDir>/images`, their files in the layers. */
  readonly dataDir: string;
  readonly layers: DiskLayers;
  /** Names that something else stands in for: `{ 'ubuntu:24.04': 'minimal' }`. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** What a pulled image may unpack to. */
  readonly limits?: Partial<TarLimits>;
  /** Where the machine's apt configuration is; `/etc/apt` unless a test says otherwise. */
  readonly aptDir?: string;
}

const defaultLimits: TarLimits = { maxUnpackedBytes: 32 * 1024 ** 3, maxEntries: 2_000_000, maxRatio: 500 };
const debianEnv = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' };

interface State {
  readonly layers: DiskLayers;
  readonly aliases: Readonly<Record<string, string>>;
  readonly limits: TarLimits;
  readonly aptDir: string;
  readonly certificates: LocalCertificates | null;
  readonly records: ImageRecords;
  readonly flights: Flights<ResolvedImage>;
}

interface Request {
  readonly progress: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Opens the images of a data directory. */
export async function createImageStore(options: ImageStoreOptions): Promise<ImageStore> {
  const state: State = {
    layers: options.layers,
    aliases: options.aliases ?? {},
    limits: { ...defaultLimits, ...options.limits },
    aptDir: options.aptDir ?? '/etc/apt',
    certificates: await readLocalCertificates(),
    records: await createImageRecords(options.dataDir),
    flights: createFlights(),
  };
  return { resolve: (image, progress, signal) => resolve(state, image, { progress, signal }) };
}

async function resolve(state: State, image: string, request: Request): Promise<ResolvedImage> {
  const standIn = aliasOf(state, image);
  const name = standIn ?? image;
  const work = (progress: Request['progress'], signal: AbortSignal) => resolveName(state, name, { progress, signal });
  const resolved = await state.flights.join(name, work, request);
  if (standIn === null) return resolved;
  const note = `image ${image} is not used here: ${standIn} stands in for it (an alias in the configuration)`;
  return { ...resolved, warning: [note, resolved.warning].filter((line) => line !== null).join('; ') };
}

/** An alias counts for every spelling of the image. */
function aliasOf(state: State, image: string): string | null {
  const exact = Object.hasOwn(state.aliases, image) ? state.aliases[image] : undefined;
  if (exact !== undefined) return exact;
  if (debianRecipe(image) !== undefined) return null;
  const wanted = parseImageReference(image).name;
  const found = Object.entries(state.aliases).find(([from]) => parseImageReference(from).name === wanted);
  return found?.[1] ?? null;
}

function resolveName(state: State, name: string, request: Request): Promise<ResolvedImage> {
  const recipe = debianRecipe(name);
  return recipe === undefined
    ? resolvePulled(state, parseImageReference(name), request)
    : resolveBuilt(state, recipe, request);
}

async function resolveBuilt(state: State, recipe: DebianRecipe, request: Request): Promise<ResolvedImage> {
  const key = `name:${recipe.name}`;
  const isCurrent = (record: ImageRecord | null) => record?.recipeKey === recipeKey(recipe, state.certificates);
  const known = await state.records.read(key);
  if (known !== null && isCurrent(known) && (await isHere(state, known))) return resolvedFrom(known);
  return withFileLock(state.records.lockPath(key), request.signal, async () => {
    const meanwhile = await state.records.read(key);
    if (meanwhile !== null && isCurrent(meanwhile) && (await isHere(state, meanwhile))) return resolvedFrom(meanwhile);
    if (known !== null) await state.layers.release(known.layerId);
    const build = { recipe, aptDir: state.aptDir, certificates: state.certificates, ...request };
    return resolvedFrom(await makeBuilt(state, build));
  });
}

function makeBuilt(state: State, build: DebianBuild): Promise<ImageRecord> {
  const { name } = build.recipe;
  return make(state, { key: `name:${name}`, idPrefix: name.replace(':', '-') }, async (rootDir) => ({
    digest: await buildDebian(build, rootDir),
    env: debianEnv,
    recipeKey: recipeKey(build.recipe, build.certificates),
  }));
}

/** Makes an image's layer and remembers it under `key`. */
async function make(
  state: State,
  { key, idPrefix }: { key: string; idPrefix: string },
  fill: (...dirs: Parameters<FillLayer>) => Promise<Omit<ImageRecord, 'layerId'>>,
): Promise<ImageRecord> {
  const layerId = `image-${idPrefix}-${randomUUID()}`;
  const recorded = Promise.withResolvers<ImageRecord>();
  await state.layers.add(layerId, 'image', async (rootDir, scratchDir) => {
    const record = { ...(await fill(rootDir, scratchDir)), layerId };
    crashPoint('image.made');
    // Before the layer is: a record without its layer is harmless, a layer without its record is lost.
    await state.records.write(key, record);
    crashPoint('image.recorded');
    recorded.resolve(record);
  });
  return recorded.promise;
}

async function resolvePulled(state: State, reference: ImageReference, request: Request): Promise<ResolvedImage> {
  const key = `name:${reference.name}`;
  const digest = reference.digest ?? (await currentDigest(state, reference, request));
  if (typeof digest !== 'string') return digest;
  const known = await hereByDigest(state, digest);
  const record = known ?? (await pull(state, { reference, digest }, request));
  await state.records.write(key, record);
  crashPoint('image.named');
  return resolvedFrom(record);
}

/** The digest behind a tag, or, when the registry cannot be asked, the image as it was when it could. */
async function currentDigest(
  state: State,
  reference: ImageReference,
  request: Request,
): Promise<string | ResolvedImage> {
  try {
    return await inspectImage(reference, request.signal);
  } catch (error) {
    request.signal.throwIfAborted();
    const known = await state.records.read(`name:${reference.name}`);
    if (isAbsent(error) || known === null || !(await isHere(state, known))) throw error;
    const warning = `registry ${reference.registry} does not answer: image ${reference.name} is the copy pulled earlier (${known.digest})`;
    return { ...resolvedFrom(known), warning };
  }
}

function pull(
  state: State,
  what: { reference: ImageReference; digest: string },
  request: Request,
): Promise<ImageRecord> {
  return withFileLock(state.records.lockPath(`digest:${what.digest}`), request.signal, async () => {
    const meanwhile = await hereByDigest(state, what.digest);
    if (meanwhile !== null) return meanwhile;
    return makePulled(state, what, request);
  });
}

function makePulled(
  state: State,
  { reference, digest }: { reference: ImageReference; digest: string },
  request: Request,
): Promise<ImageRecord> {
  return make(state, { key: `digest:${digest}`, idPrefix: digest.replace(':', '-') }, async (rootDir, scratchDir) => {
    const env = await fetchImage({ reference, digest, limits: state.limits, rootDir, scratchDir, ...request });
    return { digest, env: { PATH: debianEnv.PATH, ...env }, recipeKey: null };
  });
}

async function hereByDigest(state: State, digest: string): Promise<ImageRecord | null> {
  const record = await state.records.read(`digest:${digest}`);
  return record !== null && (await isHere(state, record)) ? record : null;
}

async function isHere(state: State, record: ImageRecord): Promise<boolean> {
  return (await state.layers.stackOf(record.layerId)) !== null;
}

function resolvedFrom(record: ImageRecord): ResolvedImage {
  return { layerId: record.layerId, digest: record.digest, env: record.env, warning: null };
}
