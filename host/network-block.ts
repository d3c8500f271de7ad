import { mkdir, readdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';
import { ignoringMissing, isErrno } from './container-errors.ts';
import { formatIpv4, type Ipv4Network, overlaps, parseIpv4Network } from './network-address.ts';
import { runProgram } from './run-program.ts';

/** Room for 1024 links of four addresses each. */
const blockPrefix = 20;
const candidates = parseIpv4Network('10.192.0.0/10');

interface BlockOptions {
  readonly installationId: string;
  readonly dataDir: string;
  /** Directory of all installations of this machine; claims are files in it. */
  readonly runRoot: string;
  /** Networks the block must stay clear of besides the host's own: resolvers, allowed targets. */
  readonly avoid: readonly Ipv4Network[];
}

/**
 * Claims a block of addresses that neither the host's routes nor another installation use. A claim outlives the process, since
 * capsules do; `releaseBlock` ends it. Throws `provision_failed` when everything is taken.
 */
export async function claimBlock(options: BlockOptions): Promise<Ipv4Network> {
  const claimsDir = join(options.runRoot, 'networks');
  await mkdir(claimsDir, { recursive: true });
  const held = await ownClaim(claimsDir, options.installationId);
  if (held) return held;
  const avoid = [...options.avoid, ...(await hostNetworks())];
  const count = 2 ** (blockPrefix - candidates.prefix);
  const first = Number.parseInt(options.installationId, 16) % count;
  for (let index = 0; index < count; index++) {
    const base = candidates.base + ((first + index) % count) * 2 ** (32 - blockPrefix);
    const block = { base, prefix: blockPrefix };
    if (!avoid.some((network) => overlaps(network, block)) && (await claim(claimsDir, block, options))) return block;
  }
  throw new AppError('provision_failed', 'no free block of addresses is left in 10.192.0.0/10 for capsules');
}

/** Gives the installation's block back. Idempotent. */
export async function releaseBlock(runRoot: string, installationId: string): Promise<void> {
  const claimsDir = join(runRoot, 'networks');
  const block = await ownClaim(claimsDir, installationId);
  if (block) await ignoringMissing(unlink(join(claimsDir, formatIpv4(block.base))));
}

async function ownClaim(claimsDir: string, installationId: string): Promise<Ipv4Network | null> {
  const names = await readdir(claimsDir).catch(() => []);
  for (const name of names) {
    const claimed = await readClaim(join(claimsDir, name));
    if (claimed?.installationId === installationId) return parseIpv4Network(`${name}/${blockPrefix}`);
  }
  return null;
}

async function claim(claimsDir: string, block: Ipv4Network, options: BlockOptions): Promise<boolean> {
  const path = join(claimsDir, formatIpv4(block.base));
  const text = JSON.stringify({ installationId: options.installationId, dataDir: options.dataDir });
  try {
    await writeFile(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
  }
  if (await isLive(await readClaim(path))) return false;
  await ignoringMissing(unlink(path));
  return claim(claimsDir, block, options);
}

interface Claim {
  readonly installationId: string;
  readonly dataDir: string;
}

async function readClaim(path: string): Promise<Claim | null> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    return null;
  }
}

/** A claim whose data directory is gone, or was founded anew, binds nobody. */
async function isLive(claim: Claim | null): Promise<boolean> {
  if (claim === null) return false;
  const text = await readFile(join(claim.dataDir, 'installation.json'), 'utf8').catch(() => '');
  return text.includes(claim.installationId);
}

/** Every network the host has a route to or an address in, but for the default route. */
async function hostNetworks(): Promise<readonly Ipv4Network[]> {
  const { stdout } = await runProgram(['ip', '-4', 'route', 'show', 'table', 'all']);
  return stdout.split('\n').flatMap((line) => {
    const destination = line
      .replace(/^(local|broadcast|unreachable|blackhole|prohibit|throw|multicast) /, '')
      .split(' ')[0];
    return destination && /^[\d.]+(\/\d+)?$/.test(destination) ? [parseIpv4Network(destination)] : [];
  });
}
