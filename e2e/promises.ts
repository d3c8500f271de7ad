/** Something that goes wrong, and the test that makes it go wrong. */
export interface Fault {
  readonly fault: string;
  /** The test file, from the root of the repository. */
  readonly file: string;
  /** Title of the test, or the name of its row in a table of tests, as it stands in the file or in what the file imports. */
  readonly title: string;
}

/** Something Caisson promises, and the faults under which a test shows it. */
export interface PromiseKept {
  readonly id: string;
  /** What a user may rely on. */
  readonly promise: string;
  readonly faults: readonly Fault[];
}

/** `fault: title` of one file. */
function by(file: string, faults: Readonly<Record<string, string>>): readonly Fault[] {
  return Object.entries(faults).map(([fault, title]) => ({ fault, file, title }));
}

/** What Caisson promises when things break, and the tests that break them. `docs/reliability.md` is made of it. */
export const promises: readonly PromiseKept[] = [
  {
    id: 'simulation',
    promise: 'Whatever fails, and in whatever order, the rules about jobs, leases and logs hold after every event.',
    faults: [
      ...by('server/test/simulation-seeds.test.ts', {
        'crashes between any two writes, lost, doubled, reordered and late messages, cancels, retries':
          'a thousand seeds keep every promise',
        'seeds that once broke something': 'seed $seed keeps every promise: $found',
        'the same seed again': 'the same seed gives the same history, event for event',
      }),
      ...by('server/test/simulation.test.ts', {
        'other seeds': 'another thousand seeds keep every promise',
        'a bug put into the control plane on purpose':
          'a control plane that $what is found, and shown in a small history',
      }),
    ],
  },
  {
    id: 'crash',
    promise: 'A process killed at any moment loses no job, repeats none without saying so, and leaves nothing behind.',
    faults: [
      ...by('server/test/crash-points.test.ts', {
        'the control plane is killed between any write and its effect':
          'a control plane killed at $point (time $hit) loses and repeats nothing',
      }),
      ...by('server/test/crash-copies.test.ts', {
        'the control plane is killed while a disk goes to another host':
          'a control plane killed at $point (time $hit) brings a disk to its other host all the same',
      }),
      ...by('host/test/crash-points.test.ts', {
        'the host is killed between any write and its effect':
          'a host killed at $title loses, repeats and leaves nothing',
      }),
      ...by('host/test/container-crash.test.ts', {
        'the host is killed while it makes a capsule':
          'leaves nothing that the next start does not remove, wherever it was',
        'the host is killed while a capsule runs': 'leaves a capsule running that the next process adopts',
      }),
      ...by('e2e/kill-apart.test.ts', {
        'kill -9 of the control plane': 'a host of its own does not notice kill -9 of its control plane',
        'kill -9 of the host': 'a build goes on after kill -9 of its host',
        'the host hangs': 'a host that hangs for a while loses nothing',
      }),
      ...by('e2e/kill-up.test.ts', {
        'kill -9 of everything that is one process': 'a build goes on after kill -9 of everything that is one process',
        'kill -9 of everything with its database': 'a build goes on after kill -9 of everything with its database',
        'kill -9 of PostgreSQL': 'a build goes on after kill -9 of its database',
        'kill -9 again and again': 'a build passes when it is killed again and again',
      }),
      ...by('e2e/refusals.test.ts', {
        'a capsule dies underneath its job': 'a capsule that dies is replaced by a new one and the job passes',
      }),
      ...by('host/test/finished-leases.test.ts', {
        'a job that has ended is handed over again after a restart':
          'a job that ended under an earlier host is not begun again',
      }),
      ...by('host/test/steady-clock.test.ts', {
        "the host's clock is set while it is away":
          'a run taken up after the clock was set by %d ms ends when its time is over',
      }),
      ...by('host/test/run-journal.test.ts', {
        'a record is cut off in the middle': 'a tail torn at any byte is cut off and written again',
      }),
      ...by('guest/test/reconnect.test.ts', {
        'the link between host and capsule breaks': 'lost in the middle of the output loses nothing',
        'the host is killed while a command prints': 'of a host killed with SIGKILL leaves its processes to the next',
      }),
    ],
  },
  {
    id: 'upgrade',
    promise: 'A new version goes on with what an earlier one has begun.',
    faults: [
      ...by('e2e/upgrade.test.ts', {
        'an upgrade in the middle of a build': 'a build begun under $title goes on under this one',
        'a control plane newer than its host': 'a host of $title serves a control plane of this one',
      }),
      ...by('server/test/migrate.test.ts', {
        'the first version, with a build that runs':
          'a build that runs on tables of the first version goes on after the migrations',
        'a migration fails':
          'a migration that fails half way leaves everything as it was, and goes through once it is right',
        'the process is killed in a migration':
          'a process killed in the middle of a migration leaves everything as it was, and the next start does it',
        'several start at once': 'several that start at once apply each migration once',
        'back to the version before':
          'a version goes back to the one before when the newer one broke nothing, and is refused when it did',
      }),
    ],
  },
  {
    id: 'partition',
    promise: 'A network that is slow, lossy or gone costs time and no job; who comes back too late changes nothing.',
    faults: [
      ...by('e2e/partition.test.ts', {
        'the network is gone for less than a lease': 'a cable that is out for seven seconds costs nothing',
        'the network is gone in one direction': 'seven seconds in which nothing comes back from the host cost nothing',
        'packets are lost and late':
          'a build passes on a line that loses 30 % of the packets and takes two seconds there and back',
        'the reader is slow': 'a control plane that takes little at a time gets all of it',
      }),
      ...by('e2e/partition-long.test.ts', {
        'the network is gone for longer than a lease, and the host comes back':
          'the jobs of hosts that fall silent for longer than a lease run elsewhere, and what comes back is fenced',
      }),
      ...by('server/test/engine-copies.test.ts', {
        'the host that made a disk is gone, and the disk was brought to another one before':
          'what was brought once can be brought again when the host that made it is gone',
        'a host that cannot use the disk brought to it':
          'a host that cannot use a disk is passed over, and the job loses no attempt',
      }),
      ...by('server/test/engine.test.ts', {
        'every message comes twice': 'output is stored once and in order, also when the host repeats it',
        'a host has forgotten its runs': 'a run the host has forgotten is given out again',
        'two control planes serve one host':
          'two control planes share one database and one host without doing anything twice',
      }),
      ...by('core/test/step-job.test.ts', {
        'a host reports under a lease it has lost': 'refuses what an earlier holder says',
      }),
      ...by('core/test/build-life.test.ts', {
        'events in any order': 'whatever happens, every build ends once events stop and hosts report',
      }),
    ],
  },
  {
    id: 'database',
    promise: 'Trouble with PostgreSQL is a 503 and a pause, never a lost line or job.',
    faults: [
      ...by('server/test/engine-outage.test.ts', {
        'every connection breaks': 'all connections to PostgreSQL ended again and again in the middle of builds',
        'the listening connection is lost':
          'without the connection that listens a build comes to its end, and it listens again',
        'the connections are used up': 'connections used up by others for a while only delay',
        'of three control planes one is killed and one stands still':
          'of three control planes under load one is killed and one frozen past its leases; nothing is lost or repeated',
      }),
      ...by('server/test/postgres-supervisor.test.ts', {
        'the server is killed': 'a killed server comes back with everything that was committed',
        'the server is killed again and again':
          'a server that is killed again and again keeps coming back, and stopping in between ends it',
        'its supervisor is killed': 'a killed supervisor takes its server along, and the next one starts at once',
        'the first start is killed': 'a supervisor killed while it makes the database leaves nothing half made',
      }),
      ...by('server/test/ci-http.test.ts', {
        'the door is asked while the database is away': 'a database that is away is a 503',
      }),
      ...by('server/test/engine-sweep.test.ts', {
        'an effect is lost': 'a rendered build whose effect was lost is planned all the same',
        'an open build is forgotten': 'an open build with nothing under way is looked at again',
        'the clock is set by an hour': '%s costs no lease, no disk and no build',
      }),
    ],
  },
  {
    id: 'documents',
    promise: 'No document and no request makes the server fail; every refusal says what is wrong, and at which step.',
    faults: [
      ...by('core/test/plan-hostile.test.ts', {
        'a document mutated in any place': 'mutated in any place is planned or refused with code and message',
        'a document with bytes changed': 'with bytes changed is planned or refused',
        'a document nested a million deep': 'nested a million deep is refused or passed over',
        'a document beyond a limit': 'beyond each limit is refused',
      }),
      ...by('core/test/plan-names-step.test.ts', {
        'junk in any field of any step, in every dialect':
          'whatever stands in a field of a step in the %s dialect, a refusal names a step',
      }),
      ...by('server/test/ci-hostile-ir.test.ts', {
        'mutated documents at the door':
          'a document of any dialect, mutated in any place, is planned or refused with code and message, and never a failure',
      }),
      ...by('server/test/ci-fuzz.test.ts', {
        'wrong types, ids, cursors and bodies at every operation':
          '%s refuses every wrong input in the envelope and never fails',
        'no or a false token at every operation': '%s answers 401 to the signed out, before it looks at anything else',
      }),
      ...by('server/test/ci-headers.test.ts', {
        'wrong headers, lengths, chunks and encodings at every operation':
          '%s is an answer or an end, and never a failure, at every operation',
      }),
      ...by('server/test/ci-http.test.ts', {
        'bytes that are no HTTP': 'bytes that are no HTTP get a 400',
        'a body over the limit': 'a body over 8,000,000 bytes is a 413',
        'a body nested deeper than the stack': 'a body nested deeper than the stack is refused, not a failure',
      }),
      ...by('server/test/ci-builds.test.ts', {
        'a source over the limit': 'one that is too large is cut off and nothing of it stays',
        'an upload that breaks off': "one whose sender goes away leaves nothing and is nobody's failure",
        'a source of another organization': 'one of another organization cannot be named',
      }),
      ...by('server/test/engine-host.test.ts', {
        'a failure told with any bytes': 'what a host says of a failure is stored whatever bytes are in it',
      }),
    ],
  },
  {
    id: 'archives',
    promise:
      'A source archive, an image or the disk of another host writes nowhere but in its own tree, or is refused and leaves nothing.',
    faults: [
      ...by('host/test/source-hostile.test.ts', {
        'names with ..': 'a name that climbs',
        'absolute names': 'an absolute name',
        'files through symlinks': 'a file through a symlink',
        'hard links out of the tree': 'a hard link out of the tree',
        'character devices': 'a character device',
        'block devices': 'a block device',
        'archive bombs': 'an archive that unpacks to far more than it is gets refused early',
        'sparse files that lie about their size': 'a sparse file',
        'sparse files of GNU tar': 'a sparse file as GNU tar packs it is refused in every format, and nothing is left',
        'sizes that lie': 'a pax size beyond all',
        'too many entries': 'more entries than allowed',
        'damaged bytes': 'damaged bytes are refused, and nothing is left',
        'random archives': 'random archives, whole or damaged, never write outside and never fail in another way',
      }),
      ...by('e2e/refusals.test.ts', {
        'a hostile source through the whole system': 'a source with the entry %s is refused by its name',
      }),
      ...by('host/test/source-store.test.ts', {
        'an archive that is not what its digest says': 'bytes that do not hash to the digest are refused and not kept',
        'an upload to the host that breaks off': 'an upload that breaks off leaves nothing',
      }),
      ...by('host/test/layer-copies.test.ts', {
        'the disk of a hostile host': 'an archive of a hostile host writes nowhere else',
        'the disk of another host, torn or of no use': 'a copy that cannot be used is refused and leaves nothing',
      }),
      ...by('host/test/image-registry.test.ts', {
        'a broken manifest or wrong digest of an image':
          'bytes that are not what their digest says are refused and leave nothing',
        'whiteouts and owners of an image': 'layers, whiteouts, owners and symlinks come out as the image means them',
        'devices, climbing names, bombs in an image': 'an image with %s is refused and leaves nothing',
        'symlinks of an image': 'symlinks of an image lead inside its own tree and never outside',
        'a registry that is gone': 'without its registry an image pulled earlier still serves, with a warning',
      }),
      ...by('host/test/escape-disk.test.ts', {
        'setuid files and file capabilities': 'as setuid files and file capabilities gives a later capsule nothing',
        'whiteouts a job leaves': 'as whiteouts hides what is below from its own children only',
        'overlay marks a job leaves': 'as user attributes that look like those of an overlay changes nothing below',
        'links a job leaves in the places the host writes to':
          'as a link at %s to %s never leads the host out of the capsule',
      }),
    ],
  },
  {
    id: 'agent',
    promise:
      'The host believes nothing that comes out of a capsule, not even from the program in the place of its agent.',
    faults: [
      ...by('host/test/guest-frames.test.ts', {
        'any bytes instead of frames':
          'any bytes are read or refused with the protocol error, and never more than one frame is held',
      }),
      ...by('host/test/guest-hostile.test.ts', {
        'frames out of place': '%s ends the link',
        'any answer to any call': 'whatever an agent answers, every call ends and nothing is left open',
        'an agent that does not read': 'an agent that does not read ends the link, before much waits for it',
        'a listing without end': 'a listing without an end is refused at its limit',
        'a false greeting': 'a greeting that is late, wrong or of another version is refused',
      }),
      ...by('host/test/escape-resources.test.ts', {
        'a hostile program as the agent': 'that sends garbage and frames without end ends its capsule and nothing else',
      }),
      ...by('guest/test/fuzz.test.ts', {
        'hostile frames to the agent': 'neither crash nor hang nor grow the agent',
      }),
    ],
  },
  {
    id: 'escape',
    promise: 'A job is root in its capsule and nobody outside of it. All attacks are listed in isolation.md.',
    faults: [
      ...by('host/test/escape-container.test.ts', {
        'it kills the agent': 'kill the agent',
        'it traces the agent': 'trace the agent',
        'it unmounts': 'unmount its root',
        'it remounts': 'make the agent writable by a remount',
        'it mounts': 'mount another /proc',
        'it opens raw sockets': 'open a raw socket of any protocol',
        'it reaches for the loopback of the host': "reach the host's loopback",
        'it reaches for the metadata address': 'reach the metadata service',
        'it reaches for its neighbours': 'reach another capsule',
        'it reaches for private networks': 'reach a private network behind the host',
        'it makes namespaces': 'move into any new namespace by unshare',
        'it loads kernel modules': 'load a module from memory',
        'it opens the disk of the host': 'open the disk its files lie on',
        'the host is as before, all refusals mean something':
          'be refused what it may have, or the refusals would mean nothing',
        'it fills the table of connections': "fill the host's table of connections",
      }),
      ...by('host/test/escape-disk.test.ts', {
        'a user of the host enters a capsule': 'cannot enter the disk of a running capsule, nor run its setuid files',
      }),
    ],
  },
  {
    id: 'resources',
    promise: 'A job that takes all it can is ended with a code that says so; the host and the neighbours stay well.',
    faults: [
      ...by('host/test/escape-resources.test.ts', {
        'a fork bomb': 'that forks without end is held by its limit and is ended at its time',
        'a memory hog (`out_of_memory`)': 'that takes too much memory %s ends as out of memory',
        'a disk filler (`disk_full`)': 'that fills its disk %s ends as disk full',
        'all watches, descriptors or pipes': 'that takes all %s leaves enough for the host and others',
        'a kill of everything in sight': 'that kills all it can see only ends itself',
        'jobs that together fill the disk of the host':
          'that wrote the most is ended when the host runs out of disk, and the others go on',
      }),
      ...by('host/test/flood.test.ts', {
        'floods of output while nobody listens':
          'jobs that print without end while nobody listens grow neither the host nor its disk beyond their limit',
        'a line of 1,000,000 characters, and output of every byte':
          'a line of a million characters and output of every byte come out as they went in',
      }),
      ...by('host/test/run-output.test.ts', {
        'output beyond its limit':
          'output beyond the limit is dropped behind one marker and acknowledged, across restarts too',
      }),
      ...by('guest/test/flow.test.ts', {
        'a gigabyte of output': 'a gigabyte of output passes whole, in order, and neither side grows',
        'a writer nobody reads': 'a writer nobody reads is stopped, not buffered',
      }),
      ...by('e2e/load.test.ts', {
        'fifty megabytes through the whole system':
          'fifty megabytes of output reach a reader whole and in order, and the server does not grow',
        'bytes that are no text':
          'half lines, carriage returns and bytes that are no text arrive before the end of the line',
      }),
    ],
  },
  {
    id: 'full-disk',
    promise: 'A full disk pauses what needs it, says so, and damages nothing; with room all goes on without a restart.',
    faults: [
      ...by('host/test/full-disk.test.ts', {
        'the host cannot write an assignment':
          'an assignment that cannot be written down is refused with the reason, and taken when there is room',
        'the journal of a run cannot be written':
          'output is held back while the journal cannot be written, and comes whole when there is room',
        'a source does not fit on the host': 'a source that does not fit is refused and leaves nothing',
        'space or files run out anywhere in a run':
          'wherever the %s run out, a run passes or ends as disk full, and the next one passes',
        'a host is started anew on a full disk':
          'a host that is started anew on a full disk takes up its run, and its output comes whole when there is room',
        'a disk is given back when nothing can be written':
          'a disk that is given back goes although there is no file left for its mark',
        'unused images and sources take the room':
          'images and sources nobody uses go when room is short, and what is held stays',
        'a host is short of room': 'a heartbeat says that there is no room for new work, until there is',
      }),
      ...by('host/test/image-full-disk.test.ts', {
        'the space runs out anywhere in a pull':
          'wherever the disk becomes full while an image is pulled, nothing is left of it, and with room it is pulled',
        'an image has no room to be built': 'an image that is built is refused at once on a disk too full for it',
      }),
      ...by('server/test/engine-waits.test.ts', {
        'jobs for a host short of room':
          'a host without room brings to an end what it has begun and takes nothing new until there is room',
      }),
      ...by('server/test/full-disk.test.ts', {
        'the disk of PostgreSQL and of its log is full':
          'a full disk of PostgreSQL is a 503 at the door and a pause for builds and log streams; with room all goes on by itself',
        'the disk of the sources is full':
          'a source that does not fit is a 503 in the envelope, leaves no part of itself, and is taken with room',
      }),
    ],
  },
  {
    id: 'full-memory',
    promise: 'Memory is bounded, whatever is asked, printed or not read.',
    faults: [
      ...by('server/test/message-queue.test.ts', {
        'a database that stores nothing':
          'a database that stores nothing stops the flow of messages, and all of them come in order when it does again',
      }),
      ...by('server/test/ci-log-stream.test.ts', {
        'readers that take nothing': 'a reader that takes nothing holds up no memory and nobody else',
        'readers that go away': 'a reader that goes away frees everything',
      }),
      ...by('server/test/ci-crowd.test.ts', {
        '500 readers of one job': 'five hundred readers of one job each get every line once and in order',
        'documents of the largest size, several at once':
          'documents as large as a body may be are planned or refused, several at once, and the door stays open',
      }),
    ],
  },
  {
    id: 'full-queue',
    promise: 'What there is no room for waits in turn, and says why.',
    faults: [
      ...by('server/test/engine-waits.test.ts', {
        'more builds than capacity':
          'more builds than there is room for wait with the reason in their log, and all pass in turn',
        '1,000 jobs ready at once': 'a thousand jobs that are ready at once all run on one host, each once',
      }),
      ...by('server/test/engine-host.test.ts', {
        'very many jobs wait for a host that is gone': 'jobs that wait for one host do not keep another idle',
        'several control planes place at once': 'a host is given no more than it has, whoever places',
        'the disk of the host has filled since':
          'a job that its host has no room for goes back to the queue and loses no attempt',
        'a build that cannot be changed': 'a build that cannot be changed does not keep the others of its host',
        'a large source on its way': 'a large source on its way keeps no other job waiting, and its lease is kept',
      }),
    ],
  },
];
