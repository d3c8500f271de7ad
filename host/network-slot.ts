import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatIpv4, type Ipv4Network } from './network-address.ts';
import type { RunBriefly } from './resident-programs.ts';

/** A prepared network namespace with one link to the host. Slots are numbered; the number gives every name and address. */
export interface NetworkSlot {
  readonly number: number;
  readonly namespace: string;
  /** Name of the host's end of the link; at most 15 bytes. */
  readonly link: string;
  readonly hostAddress: string;
  readonly guestAddress: string;
}

export const maxSlots = 1024;
/** Links that are about to be removed, whoever removes them: an arbitrary number. */
const doomedGroup = 0x63_73_0001;

export function linkPrefix(installationId: string): string {
  return `cs${installationId}`;
}

export function slotOf(installationId: string, block: Ipv4Network, number: number): NetworkSlot {
  const base = block.base + 4 * number;
  return {
    number,
    namespace: namespacePrefix(installationId) + number,
    link: `${linkPrefix(installationId)}n${number}`,
    hostAddress: formatIpv4(base + 1),
    guestAddress: formatIpv4(base + 2),
  };
}

export function namespacePrefix(installationId: string): string {
  return `caisson-${installationId}-`;
}

/** Where a process that joins the namespace opens it. */
export function namespacePath({ namespace }: NetworkSlot): string {
  return join('/run/netns', namespace);
}

/** Numbers of every slot of the installation of which a namespace or a link exists. */
export async function existingSlots(installationId: string): Promise<readonly number[]> {
  const { namespaces, links } = await readNames();
  const numbers = [
    ...numbersAfter(namespaces, namespacePrefix(installationId)),
    ...numbersAfter(links, `${linkPrefix(installationId)}n`),
  ];
  return [...new Set(numbers)];
}

function numbersAfter(names: ReadonlySet<string>, prefix: string): readonly number[] {
  return [...names]
    .filter((name) => name.startsWith(prefix))
    .map((name) => Number(name.slice(prefix.length)))
    .filter(Number.isInteger);
}

/** Makes namespaces and links for several slots at once: one program for the host's side of all, one for the inside of all. */
export async function makeSlots(slots: readonly NetworkSlot[], run: RunBriefly): Promise<void> {
  const commands = slots.flatMap((slot) => [
    `netns add ${slot.namespace}`,
    `link add ${slot.link} type veth peer name eth0 netns ${slot.namespace}`,
    `link set ${slot.link} addrgenmode none`,
    `addr add ${slot.hostAddress}/30 dev ${slot.link}`,
    `link set ${slot.link} up`,
  ]);
  await run(['ip', '-batch', '-'], { stdin: `${commands.join('\n')}\n` });
  const places = slots.flatMap(({ namespace, guestAddress, hostAddress }) => [namespace, guestAddress, hostAddress]);
  await run(['/bin/sh', '-ec', setUpAll, 'sh', setUpInside, ...places]);
}

const setUpAll = `
  script=$1
  shift
  while [ $# -gt 0 ]; do
    nsenter --net="/run/netns/$1" /bin/sh -ec "$script" sh "$2" "$3"
    shift 3
  done`;

/**
 * A capsule's root has no rights over the namespace, so what it usually may is opened here: ports below 1024 and ping. IPv6 stays on
 * loopback only.
 */
const setUpInside = `
  echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
  echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range
  [ ! -e /proc/sys/net/ipv6/conf/eth0 ] || echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
  ip -batch - <<END
link set lo up
addr add $1/30 dev eth0
link set eth0 up
route add default via $2
END`;

/** Removes namespaces and links, in any state and however many of them exist. */
export async function removeSlots(slots: readonly NetworkSlot[], run: RunBriefly): Promise<void> {
  if (slots.length === 0) return;
  const { namespaces, links } = await readNames();
  const goneLinks = slots.filter((slot) => links.has(slot.link)).map((slot) => slot.link);
  const goneNamespaces = slots.filter((slot) => namespaces.has(slot.namespace)).map((slot) => slot.namespace);
  const commands = [
    // All at once, since the kernel waits for every processor each time.
    ...goneLinks.map((link) => `link set ${link} group ${doomedGroup}`),
    ...(goneLinks.length > 0 ? [`link del group ${doomedGroup}`] : []),
    // The links first: with the namespaces alone they go at some later time.
    ...goneNamespaces.map((namespace) => `netns del ${namespace}`),
  ];
  if (commands.length === 0) return;
  const failure = await run(['ip', '-force', '-batch', '-'], { stdin: `${commands.join('\n')}\n` }).then(
    () => null,
    (error: unknown) => error,
  );
  const left = await readNames();
  // Whoever was faster in removing one made the program fail, not the removal.
  if (failure && slots.some((slot) => left.links.has(slot.link) || left.namespaces.has(slot.namespace))) throw failure;
}

async function readNames(): Promise<{ readonly namespaces: ReadonlySet<string>; readonly links: ReadonlySet<string> }> {
  const names = (directory: string) => readdir(directory).catch((): string[] => []);
  const [namespaces, links] = await Promise.all([names('/run/netns'), names('/sys/class/net')]);
  return { namespaces: new Set(namespaces), links: new Set(links) };
}

/** Lets the host pass packets between interfaces; returns whether that was off before. */
export async function enableForwarding(): Promise<boolean> {
  const path = '/proc/sys/net/ipv4/ip_forward';
  const wasOff = (await readFile(path, 'utf8')).trim() === '0';
  if (wasOff) await writeFile(path, '1');
  return wasOff;
}
