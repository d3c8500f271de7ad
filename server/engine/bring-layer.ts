import { createHash } from 'node:crypto';
import { AppError, hasCode } from '@caisson/contracts/app-error';
import { atMost } from '@caisson/contracts/at-most';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { HostApi, LayerCopy } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import type { HostLinkDeps, Link } from './host-link.ts';
import { startTimeoutMs } from './lease.ts';

/** What a host may send of one layer, packed: the store is everybody's. */
const mostLayerBytes = 64 * 2 ** 30;
const tooLarge = () => new AppError('payload_too_large', `a layer has at most ${mostLayerBytes} bytes`);
/** Begins the names that hosts make up for what is no sealed disk. */
const copyPrefix = 'copy-';

/** A sealed disk that a host is to have. */
export interface WantedLayer {
  readonly layerId: string;
  /** Capsules are to go on with the memory in it. */
  readonly isForMemory: boolean;
}

/** As much of a `Link` as it takes. */
export interface BringLink extends Pick<Link, 'host' | 'hostId' | 'signal'> {
  readonly deps: Pick<HostLinkDeps, 'db' | 'layerBlobs' | 'hosts'>;
}

/**
 * Gives a host a sealed disk that another one made, with all that lies below it, by way of the control plane's own store, where it
 * stays for as long as the disk is needed. Does nothing where the host has it. Throws what keeps it from having it.
 */
export async function bringLayer(link: BringLink, { layerId, isForMemory }: WantedLayer): Promise<void> {
  const { deps, host, signal } = link;
  const isMissing = !(await host.hasLayer(layerId));
  if (isMissing) {
    const stack = (await storedStack(link, layerId)) ?? (await storeStack(link, layerId));
    for (const layer of stack.toReversed()) {
      const { copyId, digest } = layer;
      if (await host.hasLayer(copyId)) continue;
      const bytes = untilAborted(deps.layerBlobs.read(digest), signal);
      await host.putLayer({ ...layer, isForMemory: isForMemory && copyId === layerId }, bytes).catch(async (error) => {
        // The host alone is not believed: nobody else may have the layer.
        if (hasCode(error, 'blob_digest_mismatch') && !(await isIntact(deps, digest))) await forgetStored(deps, layer);
        throw error;
      });
      crashPoint('copy.put');
    }
  }
  await noteArrival(link, layerId, isMissing);
  crashPoint('copy.arrived');
}

/** The capsules that waited for it have all their time to come up from here on; a copy that was there before gives them none. */
async function noteArrival({ deps, hostId }: BringLink, layerId: string, isNew: boolean): Promise<void> {
  await sql`
    with arrived as (
      update layer_copies set arrived_at = clock_timestamp(), refused_at = null
      where layer_id = ${layerId} and host_id = ${hostId} and (arrived_at is null or ${isNew})
      returning layer_id, host_id
    ), waiting as (
      select l.id from arrived
      join leases l on l.host_id = arrived.host_id
      join jobs j on j.id = l.job_id
      join jobs p on p.id = j.builds_in and p.layer_id = arrived.layer_id
      where l.status = 'held' and l.dispatched_at is null and l.cancel_reason is null
      order by l.id for no key update of l
    )
    update leases set due_at = clock_timestamp() + ${startTimeoutMs} * interval '1 millisecond'
    from waiting where leases.id = waiting.id`.execute(deps.db);
}

/** Notes that a host could not be given a disk, so that it is not the next to be asked. */
export async function refuseLayer({ deps, hostId }: BringLink, layerId: string): Promise<void> {
  await deps.db
    .updateTable('layer_copies')
    .set({ arrived_at: null, refused_at: sql`clock_timestamp()` })
    .where('layer_id', '=', layerId)
    .where('host_id', '=', hostId)
    .execute();
}

interface StoredLayer extends LayerCopy {
  readonly digest: string;
}

/**
 * A layer with all below it, top first, from the control plane's store; null when any of it is not there. Then the row of the top,
 * which says that all of it is, goes: what waits for the layer would wait for ever.
 */
async function storedStack({ deps }: BringLink, layerId: string): Promise<readonly StoredLayer[] | null> {
  const rows = await deps.db
    .updateTable('layer_blobs')
    .set({ used_at: sql`clock_timestamp()` })
    .where(sql<boolean>`copy_id = ${layerId} or copy_id = any(
      select unnest(top.below) from layer_blobs as top where top.copy_id = ${layerId})`)
    .returning(['copy_id', 'kind', 'driver', 'below', 'digest'])
    .execute();
  const known = new Map(rows.map(({ copy_id, ...row }) => [copy_id, { copyId: copy_id, ...row }]));
  const top = known.get(layerId);
  if (top === undefined) return null;
  const stack = [top, ...top.below.map((id) => known.get(id))];
  for (const layer of stack)
    if (layer === undefined || !(await deps.layerBlobs.has(layer.digest))) {
      await forgetStored(deps, top);
      return null;
    }
  return stack.flatMap((layer) => layer ?? []);
}

async function isIntact({ layerBlobs }: BringLink['deps'], digest: string): Promise<boolean> {
  const hash = createHash('sha256');
  for await (const chunk of layerBlobs.read(digest)) hash.update(chunk);
  return hash.digest('hex') === digest;
}

/** It is packed anew when a host asks for it again, if another one has it. */
async function forgetStored({ db }: BringLink['deps'], { copyId, digest }: StoredLayer): Promise<void> {
  await db.deleteFrom('layer_blobs').where('copy_id', '=', copyId).where('digest', '=', digest).execute();
}

/** Takes what is missing from a host that has it, the top last: once that is there, all of it is. */
async function storeStack(link: BringLink, layerId: string): Promise<readonly StoredLayer[]> {
  const { host, stack } = await findLayer(link, layerId);
  const stored: StoredLayer[] = [];
  for (const layer of stack.toReversed()) stored.unshift(await storeLayer(link, host, layer));
  return stored;
}

/** A host that says of a layer what cannot be has nothing: it may have been taken over. */
async function findLayer(
  { deps }: BringLink,
  layerId: string,
): Promise<{ readonly host: HostApi; readonly stack: readonly LayerCopy[] }> {
  const { rows } = await sql<{ host_id: string }>`
    select host_id, false as is_copy from layers where id = ${layerId}
    union all select host_id, true from layer_copies where layer_id = ${layerId} and arrived_at is not null
    order by is_copy, host_id`.execute(deps.db);
  let why: unknown;
  for (const { host_id } of rows) {
    const host = deps.hosts.get(host_id);
    try {
      const stack = await host?.describeLayer(layerId);
      if (!host || !stack) continue;
      if (await isLikely(deps, layerId, stack)) return { host, stack };
      why = new AppError('snapshot_failed', `host ${host_id} says of layer ${layerId} what cannot be`);
    } catch (error) {
      why = error;
    }
  }
  throw new AppError('snapshot_missing', 'no host that answers has the disk of the step it builds in', { cause: why });
}

/** Whether what a host is to give is that layer, sealed disks of the same build, and below them what has a name of copies only. */
async function isLikely({ db }: BringLink['deps'], layerId: string, stack: readonly LayerCopy[]): Promise<boolean> {
  const ids = stack.map(({ copyId }) => copyId);
  const isStack = stack.every(({ kind, below }, index) => {
    const rest = kind === 'sealed' ? ids.slice(index + 1) : [];
    return below.length === rest.length && below.every((id, place) => id === rest[place]);
  });
  const sealed = stack.filter(({ kind }) => kind === 'sealed').map(({ copyId }) => copyId);
  const others = ids.filter((id) => !sealed.includes(id));
  if (ids[0] !== layerId || sealed[0] !== layerId || !isStack || new Set(ids).size < ids.length) return false;
  if (!others.every((id) => id.startsWith(copyPrefix))) return false;
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from layers
    where id::text = any(${sealed}::text[]) and build_id = (select build_id from layers where id = ${layerId})`.execute(
    db,
  );
  return rows[0]?.count === sealed.length;
}

async function storeLayer({ deps, signal }: BringLink, host: HostApi, layer: LayerCopy): Promise<StoredLayer> {
  const { copyId, kind, driver, below } = layer;
  const known = await deps.db
    .updateTable('layer_blobs')
    .set({ used_at: sql`clock_timestamp()` })
    .where('copy_id', '=', copyId)
    .returning('digest')
    .executeTakeFirst();
  if (known && (await deps.layerBlobs.has(known.digest))) return { ...layer, digest: known.digest };
  const { digest, sizeBytes } = await deps.layerBlobs.put(
    untilAborted(atMost(host.readLayer(copyId), mostLayerBytes, tooLarge), signal),
  );
  crashPoint('copy.stored');
  const content = { digest, size_bytes: sizeBytes };
  await deps.db
    .insertInto('layer_blobs')
    .values({ copy_id: copyId, kind, driver, below: [...below], ...content })
    .onConflict((conflict) => conflict.column('copy_id').doUpdateSet(content))
    .execute();
  return { ...layer, digest };
}

async function* untilAborted(bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncIterable<Uint8Array> {
  for await (const chunk of bytes) {
    signal.throwIfAborted();
    yield chunk;
  }
}
