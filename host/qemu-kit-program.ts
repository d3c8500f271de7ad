import { join } from 'node:path';

/** How to start a program of the kit, e.g. `bin/qemu-img`, on the host's files: by the loader and the libraries that belong to it. */
export function kitArgv(rootDir: string, program: string): readonly string[] {
  const usr = join(rootDir, 'usr');
  const loader = join(usr, 'lib64/ld-linux-x86-64.so.2');
  return [loader, '--library-path', join(usr, 'lib/x86_64-linux-gnu'), join(usr, program)];
}
