import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A network namespace for a host, behind a cable that can be cut and made bad. */
export interface HostNetwork {
  readonly netns: string;
  /** Where a host in it listens, for `host --listen` and `up --host`. */
  readonly where: string;
  /** What becomes of packets to and from the host: each passes unless its verdict drops it. */
  packets(verdicts: { readonly toHost?: Verdict; readonly fromHost?: Verdict }): Promise<void>;
  /** The cable itself. */
  plug(isIn: boolean): Promise<void>;
  end(): Promise<void>;
}

type Verdict = 'drop' | 'drop 30 %';

const rules: Record<Verdict, string> = { drop: 'drop', 'drop 30 %': 'numgen random mod 100 < 30 drop' };
const port = 4711;
let count = 0;

/** Makes one; needs root. */
export async function openHostNetwork(): Promise<HostNetwork> {
  count += 1;
  const id = process.pid % 65_536;
  const netns = `caissone2e${id}-${count}`;
  const cable = `ce${id}-${count}`;
  const base = `10.19${(id >> 14) + 1}.${(id >> 6) & 0xff}`;
  const last = ((id & 0x3) << 6) + count * 4;
  const [ourAddress, hostAddress] = [`${base}.${last + 1}`, `${base}.${last + 2}`];
  await run('ip', ['netns', 'add', netns]);
  await run('ip', ['link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns]);
  await run('ip', ['addr', 'add', `${ourAddress}/30`, 'dev', cable]);
  await run('ip', ['-n', netns, 'addr', 'add', `${hostAddress}/30`, 'dev', 'eth0']);
  for (const link of ['lo', 'eth0']) await run('ip', ['-n', netns, 'link', 'set', link, 'up']);
  const plug = async (isIn: boolean) => void (await run('ip', ['link', 'set', cable, isIn ? 'up' : 'down']));
  await plug(true);
  const table = `inet caissone2e_${id}_${count}`;
  await nft(`table ${table} {}`);
  return {
    netns,
    where: `${hostAddress}:${port}`,
    plug,
    packets: ({ toHost, fromHost }) =>
      nft(`delete table ${table}
        table ${table} {
          chain out { type filter hook output priority -300; ${toHost ? `oifname "${cable}" ${rules[toHost]}` : ''}; }
          chain in { type filter hook input priority -300; ${fromHost ? `iifname "${cable}" ${rules[fromHost]}` : ''}; }
        }`),
    async end() {
      await nft(`delete table ${table}`);
      await run('ip', ['link', 'del', cable]);
      await run('ip', ['netns', 'del', netns]);
    },
  };
}

async function nft(script: string): Promise<void> {
  const child = spawn('nft', ['-f', '-'], { stdio: ['pipe', 'ignore', 'inherit'] });
  child.stdin.end(script);
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`nft ended with ${code} on: ${script}`);
}
