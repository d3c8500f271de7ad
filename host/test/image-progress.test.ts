import { expect, test } from 'vitest';
import { aptProgress } from '../image-progress.ts';

test('the talk of apt and dpkg becomes stages and counts', async () => {
  const lines: string[] = [];
  const talk = aptProgress({
    title: 'building',
    progress: (line) => lines.push(line.replace(/\d+ s\)/, 'n s)')),
  });
  for (const line of [
    'I: running apt-get update...',
    '0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.',
    'Unpacking x (1) ...',
    'Setting up x (1) ...',
    'I: installing remaining packages inside the chroot...',
    '0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.',
    'Need to get 29.7 MB of archives.',
    'Fetched 29.7 MB in 0s (153 MB/s)',
    'Unpacking a (1) ...',
    'Setting up a (1) ...',
    'I: cleaning package lists and apt cache...',
  ])
    talk.onLine(line);
  talk.stop();
  expect(lines).toEqual([
    'building: starting (n s)',
    'building: reading package lists (n s)',
    'building: installing the other packages, 1 packages ready (n s)',
    'building: downloading 29.7 MB, 1 packages ready, 25 % (n s)',
    'building: installing packages, 1 packages ready, 25 % (n s)',
    'building: cleaning up, 2 packages ready, 50 % (n s)',
  ]);
});
