interface ProgressReader {
  /** Takes one line of what apt, dpkg or mmdebstrap say. */
  readonly onLine: (line: string) => void;
  readonly stop: () => void;
}

interface AptProgress {
  /** What each line starts with. */
  readonly title: string;
  readonly progress: (line: string) => void;
  readonly everyMs?: number;
}

/** Turns the talk of a package installation into a short line every two seconds, and one at each new stage. */
export function aptProgress({ title, progress, everyMs = 2000 }: AptProgress): ProgressReader {
  const startedAtMs = performance.now();
  let stage = 'starting';
  let isLastRound = false;
  let isTotalKnown = false;
  let packages = 0;
  let unpacked = 0;
  let ready = 0;
  const tell = () => {
    const seconds = Math.round((performance.now() - startedAtMs) / 1000);
    // How many packages there are in all is known only when the last round of installing begins.
    const share = !isTotalKnown ? '' : `, ${Math.min(Math.floor((50 * (unpacked + ready)) / packages), 99)} %`;
    const counted = ready === 0 ? '' : `, ${ready} packages ready${share}`;
    progress(`${title}: ${stage}${counted} (${seconds} s)`);
  };
  const enter = (next: string) => {
    stage = next;
    tell();
  };
  const timer = setInterval(tell, everyMs);
  tell();
  return {
    onLine: (line) => {
      const found = /^\d+ upgraded, (\d+) newly installed/.exec(line);
      if (found !== null) {
        isTotalKnown = isLastRound;
        packages += Number(found[1]);
      } else if (line.startsWith('Unpacking ')) unpacked++;
      else if (line.startsWith('Setting up ')) ready++;
      else if (line.startsWith('Fetched ') && stage.startsWith('downloading')) enter('installing packages');
      else if (line.startsWith('Need to get '))
        enter(`downloading ${/^Need to get (\S+ \S+)/.exec(line)?.[1] ?? 'packages'}`);
      else if (line.startsWith('I: ')) {
        isLastRound ||= line.startsWith(lastRound);
        for (const [says, next] of stages) if (line.startsWith(says)) enter(next);
      }
    },
    stop: () => clearInterval(timer),
  };
}

const lastRound = 'I: installing remaining packages';
const stages: readonly (readonly [string, string])[] = [
  ['I: running apt-get update', 'reading package lists'],
  ['I: extracting archives', 'extracting the essential packages'],
  ['I: installing essential packages', 'installing the essential packages'],
  [lastRound, 'installing the other packages'],
  ['I: cleaning package lists', 'cleaning up'],
];
