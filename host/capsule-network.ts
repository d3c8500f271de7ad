import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asAppError } from './container-errors.ts';
import { noteHostChange } from './container-host-settings.ts';
import type { Installation } from './container-layout.ts';
import { parseIpv4Network } from './network-address.ts';
import { claimBlock, releaseBlock } from './network-block.ts';
import { createNetworkPool, type NetworkPool } from './network-pool.ts';
import { readHostResolvers, resolvConf } from './network-resolvers.ts';
import { networkRules, parseAllowedTarget, type RuleOptions } from './network-rules.ts';
import { enableForwarding, existingSlots, linkPrefix, removeSlots, slotOf } from './network-slot.ts';
import type { RunBriefly } from './resident-programs.ts';

/** A small part of what a host's table of connections holds. */
const maxConnections = 4_096;

interface CapsuleNetworkOptions {
  readonly installation: Installation;
  readonly runRoot: string;
  readonly poolSize: number;
  /** `CIDR` or `CIDR:port` a capsule may reach although it is private. */
  readonly allowed: readonly string[];
  /** Name servers instead of the host's. */
  readonly resolvers: readonly string[] | null;
  /** Slots of capsules that survived an earlier process; every other slot is removed. */
  readonly taken: readonly number[];
  readonly run: RunBriefly;
}

export interface CapsuleNetwork {
  readonly pool: NetworkPool;
  /** The file to show as `/etc/resolv.conf` inside. */
  readonly resolvConfPath: string;
  /** The name servers in it. */
  readonly resolvers: readonly string[];
  /** Why names will not resolve inside; null when they will. */
  readonly problem: string | null;
  /** Removes the pool, and with `isLast` also the rules and the claim on the addresses. */
  close(isLast: boolean): Promise<void>;
}

/** Puts the installation's addresses and packet rules in place and starts its pool of network namespaces, for either driver. */
export async function openCapsuleNetwork(options: CapsuleNetworkOptions): Promise<CapsuleNetwork> {
  const { installation, runRoot, taken, run } = options;
  const host = await readHostResolvers();
  const resolvers = options.resolvers ? { addresses: options.resolvers, extraLines: [], problem: null } : host;
  const allowed = options.allowed.map(parseAllowedTarget);
  const block = await claimBlock({
    installationId: installation.id,
    dataDir: installation.dataDir,
    runRoot,
    avoid: [...resolvers.addresses.map(parseIpv4Network), ...allowed.map(({ network }) => network)],
  });
  const leftover = (await existingSlots(installation.id)).filter((number) => !taken.includes(number));
  await removeSlots(
    leftover.map((number) => slotOf(installation.id, block, number)),
    run,
  );
  const table = tableName(installation.id);
  const rules = { table, linkPrefix: linkPrefix(installation.id), block, resolvers: resolvers.addresses, allowed };
  await setRules({ ...rules, maxConnections }, run);
  await recordForwarding(installation);
  const resolvConfPath = join(installation.runDir, 'resolv.conf');
  await writeFile(resolvConfPath, resolvConf(resolvers));
  const pool = createNetworkPool({ installationId: installation.id, block, size: options.poolSize, taken, run });
  return {
    pool,
    resolvConfPath,
    resolvers: resolvers.addresses,
    problem: resolvers.problem,
    async close(isLast) {
      await pool.close();
      if (!isLast) return;
      await run(['nft', 'delete', 'table', 'inet', table]);
      await releaseBlock(runRoot, installation.id);
    },
  };
}

async function setRules(options: RuleOptions, run: RunBriefly): Promise<void> {
  await run(['nft', '-f', '-'], { stdin: networkRules(options) }).catch((error: unknown) => {
    if (options.maxConnections !== null) return setRules({ ...options, maxConnections: null }, run);
    throw asAppError(error, 'runtime_unavailable', 'the packet rules of capsules could not be set');
  });
}

export function tableName(installationId: string): string {
  return `caisson_${installationId}`;
}

/** Forwarding stays on afterwards, since others may rely on it by then; the note tells the operator who turned it on. */
async function recordForwarding({ dataDir }: Installation): Promise<void> {
  if (await enableForwarding()) await noteHostChange(dataDir, 'net.ipv4.ip_forward turned on');
}
