import { type PipelineDefinition, pipeline, pullRequest, push, sh } from '@caisson/pipeline';

// Three things to see. Both forks find the file that `install` wrote: they start from its disk. Neither finds what the other one
// wrote: each has a disk of its own. And they run at the same time.
const install = sh(
  `echo "unpacking tools ..." && mkdir -p /opt/tools && printf '#!/bin/sh\\necho "built $1 with tools 1.0"\\n' > /opt/tools/build &&
chmod +x /opt/tools/build && date +%s.%N > /opt/tools/installed-at && echo "installed at $(cat /opt/tools/installed-at)"`,
  { label: ':package: install' },
);

const fork = (mine: string, other: string) =>
  install.sh(
    `echo "found what install left: installed at $(cat /opt/tools/installed-at)"
/opt/tools/build ${mine} | tee /opt/tools/${mine}.out
sleep 0.3
if [ -e /opt/tools/${other}.out ]; then echo "the forks share a disk!"; exit 1; fi
echo "no trace of ${other}: this disk is mine alone"`,
    { label: `:hammer: ${mine}` },
  );

const app = fork('app', 'docs');
const docs = fork('docs', 'app');

const join = app.sh(
  `echo "both forks passed; this disk grew out of app's:"
ls /opt/tools
test -e /opt/tools/app.out && test ! -e /opt/tools/docs.out && echo "hello from a caisson"`,
  { label: ':tada: join', after: docs },
);

const definitions: PipelineDefinition[] = [
  {
    slug: 'hello',
    name: 'Hello',
    triggers: [push({ branch: 'main' }), pullRequest()],
    pipeline: pipeline([join], { timeout: '5m' }),
  },
];
export default definitions;
