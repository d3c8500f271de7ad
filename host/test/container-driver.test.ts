import { access, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCgroupHierarchy } from '../cgroup-hierarchy.ts';
import { createContainerDriver } from '../container-driver.ts';
import { idMap } from '../id-map.ts';
import type { Machine } from '../machine-driver.ts';
import { runProgram } from '../run-program.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { openTestDriver, runInside, type TestDriver } from './test-driver.ts';

const megabyte = 1024 * 1024;
const hasOwnCgroup = (await readCgroupHierarchy()).mode === 'v2';

describe('a container capsule', () => {
  let test: TestDriver;
  let machine: Machine;

  beforeAll(async () => {
    test = await openTestDriver();
    machine = await test.driver.create(test.spec('inside'));
  });
  afterAll(() => test.end());

  const inside = async (script: string) => (await runInside(machine, script)).stdout.trim();

  it('runs as root of its own user namespace', async () => {
    expect(await inside('id -u; cat /proc/self/uid_map')).toMatch(
      new RegExp(`^0\\s+0\\s+${idMap.baseId}\\s+${idMap.count}$`),
    );
  });

  it('sees its own processes, hostname and no device of the host', async () => {
    expect(await inside('hostname; cat /etc/hostname')).toBe('inside\ninside');
    expect(Number(await inside('ls -d /proc/[0-9]* | wc -l'))).toBeLessThan(8);
    expect((await inside('ls /dev')).split('\n').toSorted()).toEqual(
      'fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero'.split(' '),
    );
  });

  it('has exactly the rights it is meant to have, and so has its agent', async () => {
    const { stdout } = await runInside(
      machine,
      'grep -hE "^(Cap|NoNewPrivs|Seccomp)" /proc/self/status /proc/1/status',
    );
    const rights = 'Inh:0 Prm:800405fb Eff:800405fb Bnd:800405fb Amb:0 NoNewPrivs:1 Seccomp:2 Seccomp_filters:1';
    const said = stdout.replace(/^Cap/gm, '').replace(/:\s+0*(?=[0-9a-f])/g, ':');
    expect(said.trim().split('\n').join(' ')).toBe(`${rights} ${rights}`);
  });

  it('has exactly the mounts it is meant to have', async () => {
    const lines = (await inside('cat /proc/self/mountinfo')).split('\n');
    const mounts = lines.map((line) => {
      const [, , , , point = '', flags = '', ...rest] = line.split(' ');
      // Nothing comes in or goes out by itself: there are no fields of propagation before the dash.
      expect(rest[0]).toBe('-');
      return { point, text: `${rest[1]} ${flags.replace(',relatime', '')}` };
    });
    const devices = /^\/dev\/(null|zero|full|tty|random|urandom)$/;
    const own = mounts.filter(({ point }) => !devices.test(point) && !point.startsWith('/proc/'));
    const bind = (file: string, flags: string) => [file, expect.stringMatching(new RegExp(`^\\S+ ${flags}$`))];
    expect(Object.fromEntries(own.map(({ point, text }) => [point, text]))).toEqual({
      '/': 'overlay rw,nosuid,nodev',
      '/proc': 'proc rw,nosuid,nodev,noexec',
      '/dev': 'tmpfs rw,nosuid',
      '/dev/pts': 'devpts rw,nosuid,noexec',
      '/dev/shm': 'tmpfs rw,nosuid,nodev',
      '/dev/mqueue': 'mqueue rw,nosuid,nodev,noexec',
      '/sys': 'tmpfs ro,nosuid,nodev,noexec',
      '/sys/devices/system/cpu': 'sysfs ro,nosuid,nodev,noexec',
      ...Object.fromEntries(
        ['resolv.conf', 'hosts', 'hostname'].map((name) => bind(`/etc/${name}`, 'ro,nosuid,nodev,noexec')),
      ),
      ...Object.fromEntries([bind('/.caisson/agent', 'ro,nosuid,nodev')]),
      ...(hasOwnCgroup ? { '/sys/fs/cgroup': 'cgroup2 ro,nosuid,nodev,noexec' } : {}),
    });
    const covers = mounts.filter(({ point }) => point.startsWith('/proc/'));
    expect(covers.filter(({ text }) => !/^(proc ro,nosuid,nodev,noexec|tmpfs ro|devtmpfs rw)$/.test(text))).toEqual([]);
    expect(covers.map(({ point }) => point)).toEqual(expect.arrayContaining(['/proc/sys', '/proc/keys']));
  });

  it('has as much of /dev/shm as half of its memory', async () => {
    expect(await inside('df -k /dev/shm | tail -n 1 | awk "{ print \\$2 }"')).toBe(String((128 * 1024) / 2));
  });

  it('changes users, owners and setuid bits', async () => {
    expect(await inside('su nobody -c "id -u"')).toBe('65534');
    expect(await inside('touch /tmp/a; chown 7:8 /tmp/a; chmod 4755 /tmp/a; stat -c "%u:%g %a" /tmp/a')).toBe(
      '7:8 4755',
    );
  });

  it.each([
    ['mounts', 'mount -t tmpfs none /tmp'],
    ['makes namespaces', 'unshare -U true'],
    ['joins namespaces', 'nsenter -t 1 -n true'],
    ['makes device nodes', 'mknod /tmp/sda b 8 0'],
    ['changes the hostname', 'hostname other'],
    ['writes kernel settings', 'echo 1 > /proc/sys/kernel/panic'],
    ['sets the clock', 'date -s 2001-01-01'],
    ['reconfigures its network', 'ip link add x type dummy'],
    ['reads the kernel log', 'dmesg'],
    ['reboots', 'reboot -f'],
    ['writes to the agent', 'echo > /.caisson/agent'],
    ['writes to /sys', 'mkdir /sys/x'],
  ])('never %s', async (_, script) => {
    const { stderr } = await runInside(machine, script);
    expect(stderr).toMatch(/not permitted|denied|Read-only|Not a/i);
  });

  it('opens no raw, packet or vsock socket', async () => {
    expect((await runInside(machine, 'arping -c1 -I lo 127.0.0.1')).exitCode).not.toBe(0);
    expect((await runInside(machine, 'traceroute -I -m1 127.0.0.1')).exitCode).not.toBe(0);
  });

  it('shows the processors but nothing else of /sys', async () => {
    expect(await inside('find /sys -maxdepth 3 -mindepth 1')).toBe(
      '/sys/devices\n/sys/devices/system\n/sys/devices/system/cpu',
    );
    expect(await inside('cat /sys/devices/system/cpu/online')).toMatch(/^0/);
  });

  it('writes to its upper layer only what the capsule wrote', async () => {
    await inside('echo hello > /root/made-here');
    const upper = join(test.dataDir, 'capsules/inside/upper');
    const names = await readdir(upper, { recursive: true });
    expect(names.toSorted()).toEqual(['root', 'root/made-here', 'tmp', 'tmp/a']);
    expect((await stat(join(upper, 'root/made-here'))).uid).toBe(idMap.baseId);
  });

  it('reports what it uses', async () => {
    const usage = await machine.usage();
    expect(usage.memoryBytes).toBeGreaterThan(0);
    expect(usage.memoryBytes).toBeLessThan(128 * megabyte);
    expect(usage.cpuMs).toBeGreaterThan(0);
  });
});

describe('the container driver', () => {
  let test: TestDriver;

  beforeAll(async () => {
    test = await openTestDriver();
  });
  afterAll(() => test.end());

  it('refuses a second capsule of the same id and leaves the first alone', async () => {
    const machine = await test.driver.create(test.spec('once'));
    await expect(test.driver.create(test.spec('once'))).rejects.toMatchObject({ code: 'already_exists' });
    expect((await runInside(machine, 'echo alive')).stdout).toBe('alive\n');
    await machine.destroy();
  });

  it('refuses an id that is no plain name', async () => {
    await expect(test.driver.create(test.spec('../escape'))).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('keeps the writable layer on stop, as a layer of the next capsule', async () => {
    const parent = await test.driver.create(test.spec('parent'));
    await runInside(parent, 'echo 1 > /root/state; rm /etc/group; mv /home /house');
    const { upperDir } = await parent.stop();
    expect(await readFile(join(upperDir, 'root/state'), 'utf8')).toBe('1\n');
    await expect(parent.died).resolves.toMatchObject({ outOfMemory: false, detail: 'the host stopped it' });
    const child = await test.driver.create(test.spec('child', { layers: [upperDir, test.imageDir] }));
    const { stdout } = await runInside(child, 'cat /root/state; ls -d /etc/group /home /house 2>/dev/null');
    expect(stdout).toBe('1\n/house\n');
    await child.destroy();
    await parent.destroy();
    await parent.destroy();
  });

  it('leaves nothing of a destroyed capsule, whatever it made of its disk', async () => {
    const machine = await test.driver.create(test.spec('messy'));
    await runInside(machine, 'mkdir -p /x/y; touch /x/y/z; chmod 000 /x/y /x; mkfifo /fifo; ln -s /etc /link');
    await runInside(machine, 'cd /; i=0; while [ $i -lt 1500 ]; do mkdir dddddd; cd dddddd; i=$((i+1)); done');
    await runInside(machine, '(sleep 1000 &) ; (setsid sleep 1000 &) ; trap "" TERM');
    await machine.destroy();
    expect(await test.driver.list()).toEqual([]);
    await expect(access(join(test.dataDir, 'capsules/messy'))).rejects.toThrow();
  });

  it('pauses every process and resumes them', async () => {
    const machine = await test.driver.create(test.spec('paused'));
    await runInside(machine, '(while :; do echo x >> /tmp/ticks; sleep 0.01; done) >/dev/null 2>&1 &');
    const ticks = join(test.dataDir, 'capsules/paused/upper/tmp/ticks');
    await expect
      .poll(() =>
        stat(ticks).then(
          (s) => s.size,
          () => 0,
        ),
      )
      .toBeGreaterThan(0);
    await machine.pause();
    const cpuMs = (await machine.usage()).cpuMs;
    const { size } = await stat(ticks);
    await expect(
      Promise.race([machine.guest.ping(), new Promise((done) => setTimeout(done, 50, 'frozen'))]),
    ).resolves.toBe('frozen');
    expect((await stat(ticks)).size).toBe(size);
    expect((await machine.usage()).cpuMs).toBe(cpuMs);
    await machine.resume();
    await expect.poll(() => stat(ticks).then((s) => s.size)).toBeGreaterThan(size);
    await machine.pause();
    await machine.destroy();
  });

  it('leaves it to what a job runs to go first for want of memory, and not to the agent', async () => {
    const machine = await test.driver.create(test.spec('oom'));
    const { stdout } = await runInside(machine, 'cat /proc/1/oom_score_adj /proc/self/oom_score_adj');
    const [agent = 0, command = 0] = stdout.split('\n').map(Number);
    expect(command).toBeGreaterThan(agent);
    await machine.destroy();
  });

  it('holds the limits of memory and processes', async () => {
    const shape = { cpus: 1, memoryBytes: 48 * megabyte, diskBytes: 1024 ** 3, pids: 20 };
    const machine = await test.driver.create(test.spec('limited', { shape }));
    expect(await machine.wasOutOfMemory()).toBe(false);
    const { stderr } = await runInside(machine, 'i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done');
    expect(stderr).toMatch(/can't fork/);
    await runInside(machine, 'kill -9 -1');
    await runInside(machine, 'dd if=/dev/zero of=/dev/null bs=200M count=1');
    expect(await machine.wasOutOfMemory()).toBe(true);
    await machine.destroy();
    expect(await machine.wasOutOfMemory()).toBe(true);
  });

  it('reports a capsule that dies by itself', async () => {
    const machine = await test.driver.create(test.spec('dying'));
    const pid = Number(await readFile(await pidFileOf(test, 'dying'), 'utf8'));
    process.kill(pid, 'SIGKILL');
    await expect(machine.died).resolves.toMatchObject({ outOfMemory: false });
    await machine.destroy();
    expect(await test.driver.list()).toEqual([]);
  });

  it('shows a directory read-only', async () => {
    const binds = [{ from: test.imageDir, to: '/opt/tools' }];
    const machine = await test.driver.create(test.spec('bound', { readOnlyBinds: binds }));
    const { stdout, stderr } = await runInside(machine, 'ls /opt/tools/bin/sh; touch /opt/tools/x');
    expect(stdout).toBe('/opt/tools/bin/sh\n');
    expect(stderr).toMatch(/Read-only/);
    await machine.destroy();
  });

  it('shares no mount with a host that shares its own, as systemd does', async () => {
    const shared = join(test.dataDir, 'shared');
    await mkdir(shared);
    await runProgram(['mount', '-t', 'tmpfs', '-o', 'mode=711', 'caisson-test', shared]);
    await runProgram(['mount', '--make-shared', shared]);
    const own = await openTestDriver({ dataDir: shared });
    try {
      await mkdir(join(shared, 'shown/later'), { recursive: true });
      const binds = [{ from: join(shared, 'shown'), to: '/opt/tools' }];
      const machine = await own.driver.create(own.spec('shared', { readOnlyBinds: binds }));
      await runProgram(['mount', '-t', 'tmpfs', 'caisson-test', join(shared, 'shown/later')]);
      const { stdout } = await runInside(machine, 'cat /proc/self/mountinfo');
      expect(stdout).toContain('/opt/tools');
      expect(stdout).not.toMatch(/shared:|master:|later/);
    } finally {
      await own.end();
      await runProgram(['umount', '--recursive', shared]);
    }
  });

  it('takes a disk of many layers', async () => {
    const names = Array.from({ length: 80 }, (_, index) => `layer-${index}`);
    const layers = names.map((name) => join(test.dataDir, 'layers', name, 'diff'));
    for (const [index, layer] of layers.entries()) {
      await mkdir(layer, { recursive: true });
      await writeFile(join(layer, names[index] ?? ''), '');
    }
    const machine = await test.driver.create(test.spec('deep', { layers: [...layers, test.imageDir] }));
    expect((await runInside(machine, 'ls -d /layer-* | wc -l')).stdout).toBe('80\n');
    await machine.destroy();
  });

  it('leaves nothing when the disk cannot be mounted', async () => {
    const layers = [join(test.dataDir, 'layers/missing/diff')];
    await expect(test.driver.create(test.spec('broken', { layers }))).rejects.toMatchObject({
      code: 'provision_failed',
    });
    expect(await test.driver.list()).toEqual([]);
  });

  it('leaves nothing when a directory to show is missing', async () => {
    const binds = [{ from: '/nonexistent', to: '/opt/tools' }];
    const create = test.driver.create(test.spec('refused', { readOnlyBinds: binds, egress: 'internet' }));
    await expect(create).rejects.toMatchObject({
      code: 'provision_failed',
      message: expect.stringMatching(/nonexistent/),
    });
    expect(await test.driver.list()).toEqual([]);
  });

  it('creates many at once, each with an address of its own', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `many-${index}`);
    const machines = await Promise.all(
      names.map((name) => test.driver.create(test.spec(name, { egress: 'internet' }))),
    );
    const outputs = await Promise.all(machines.map((machine) => runInside(machine, 'ip -4 -o addr show eth0')));
    expect(new Set(outputs.map(({ stdout }) => stdout)).size).toBe(names.length);
    expect((await test.driver.list()).toSorted()).toEqual(names);
    await Promise.all(machines.map((machine) => machine.destroy()));
    expect(await test.driver.list()).toEqual([]);
  });

  it('refuses a run directory that leaves no room for the name of a socket', async () => {
    const runRoot = join(test.dataDir, 'x'.repeat(90));
    const options = { dataDir: join(test.dataDir, 'other'), runRoot, networkPoolSize: 0 };
    await expect(createContainerDriver(options)).rejects.toMatchObject({
      message: expect.stringMatching(/choose a shorter run directory/),
    });
    await expectNothingLeft(join(test.dataDir, 'other'));
  });

  it('destroys what does not exist', async () => {
    await test.driver.destroy('never-was');
    expect(await test.driver.adopt('never-was')).toBeNull();
  });
});

describe('a container driver that is opened and closed', () => {
  it('leaves nothing, and the devices of the host as they are', async () => {
    const owners = () =>
      Promise.all(['null', 'zero', 'full', 'random', 'urandom', 'tty'].map((name) => stat(`/dev/${name}`))).then(
        (devices) => devices.map(({ uid, gid, mode }) => ({ uid, gid, mode })),
      );
    const before = await owners();
    const test = await openTestDriver({ networkPoolSize: 2 });
    await test.driver.create(test.spec('one'));
    expect(await owners()).toEqual(before);
    await test.driver.destroy('one');
    await test.driver.networkReady();
    await test.driver.close();
    await expectNothingLeft(test.dataDir);
    await test.end();
  });
});

async function pidFileOf(test: TestDriver, capsuleId: string): Promise<string> {
  const { installationId } = JSON.parse(await readFile(join(test.dataDir, 'installation.json'), 'utf8'));
  const { vesselId } = JSON.parse(await readFile(join(test.dataDir, 'capsules', capsuleId, 'state.json'), 'utf8'));
  return `/run/caisson/${installationId}/${vesselId}/pid`;
}
