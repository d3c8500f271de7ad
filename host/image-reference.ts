import { AppError } from '@caisson/contracts/app-error';

/** Where an image is: a registry, a repository in it, and a tag or a digest. */
export interface ImageReference {
  /** The whole name spelled out: `docker.io/library/ubuntu:24.04`. The same for all spellings of one image. */
  readonly name: string;
  readonly registry: string;
  /** Registry and repository, without tag and digest. */
  readonly repository: string;
  readonly tag: string;
  /** `sha256:…` when the image was asked for by digest, which then decides alone. */
  readonly digest: string | null;
  /** Plain HTTP is for registries on this machine only. */
  readonly isLoopback: boolean;
}

const pattern =
  /^(?:(?<host>(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[0-9]{1,5})?)\/)?(?<path>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)(?::(?<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?<digest>sha256:[0-9a-f]{64}))?$/;

/** Understands `ubuntu`, `ubuntu:24.04`, `host:5000/a/b:tag`, `…@sha256:…`, with or without `docker://`. Throws `image_invalid`. */
export function parseImageReference(text: string): ImageReference {
  const bare = text.replace(/^docker:\/\//, '');
  const groups = bare.length > 512 ? undefined : pattern.exec(bare)?.groups;
  if (groups === undefined)
    throw new AppError(
      'image_invalid',
      `${JSON.stringify(text.slice(0, 200))} is no image name; write it like ubuntu:24.04 or host:5000/name:tag`,
    );
  const { registry, path } = place(groups.host, groups.path ?? '');
  const tag = groups.tag ?? 'latest';
  const digest = groups.digest ?? null;
  const repository = `${registry}/${path}`;
  const name = digest === null ? `${repository}:${tag}` : `${repository}@${digest}`;
  return { name, registry, repository, tag, digest, isLoopback: isLoopback(registry) };
}

/** A first part without dot or port is no host but a part of the path: `a/b` is at Docker Hub. */
function place(host: string | undefined, path: string): { registry: string; path: string } {
  const isHost = host !== undefined && (/[.:]/.test(host) || host === 'localhost');
  if (isHost) return { registry: host, path };
  const whole = host === undefined ? path : `${host}/${path}`;
  return { registry: 'docker.io', path: whole.includes('/') ? whole : `library/${whole}` };
}

function isLoopback(registry: string): boolean {
  return /^(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d+)?$/.test(registry);
}
