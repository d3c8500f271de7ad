import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { AppError } from '@caisson/contracts/app-error';

/** Settings of one installation, from the environment. `docs/configuration.md` describes each variable. */
export interface Config {
  /** CAISSON_PORT: where the doors listen on `address`; 0 takes a free port. */
  readonly port: number;
  /** CAISSON_ADDRESS: interface to listen on. */
  readonly address: string;
  /** CAISSON_DATA_DIR: database, images, layers, capsules, blobs. */
  readonly dataDir: string;
  /** DATABASE_URL: a PostgreSQL of your own (>= 15) instead of the embedded one. */
  readonly databaseUrl: string | null;
  /** CAISSON_BOOTSTRAP_TOKEN: personal token of the first user, `hm_` and 43 base64url characters. */
  readonly bootstrapToken: string | null;
  /** CAISSON_BOOTSTRAP_EMAIL: address of the first user. */
  readonly bootstrapEmail: string;
  /** CAISSON_MAX_SOURCE_BYTES: largest source archive. */
  readonly maxSourceBytes: number;
  /** CAISSON_MAX_UNFINISHED_BUILDS: how many builds of one organization may wait or run. */
  readonly maxUnfinishedBuilds: number;
  /** CAISSON_JOB_MEMORY_MIB: memory of the capsule of a job. */
  readonly jobMemoryBytes: number;
  /** CAISSON_CORS_ORIGINS: comma-separated origins whose pages may call the doors; `*` for any. */
  readonly corsOrigins: readonly string[];
  /** CAISSON_TRUST_PROXY=1: believe `x-forwarded-*` headers. */
  readonly trustProxy: boolean;
  /** CAISSON_DOCS_URL: where the pages of docs/ are published, for `doc_url` in errors. */
  readonly docsBaseUrl: string | null;
}

const defaultMaxSourceBytes = 4 * 2 ** 30;
const defaultMaxUnfinishedBuilds = 10_000;
const defaultJobMemoryMib = 4 * 1024;

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads and checks the environment; throws `invalid_config` naming the variable. */
export function readConfig(env: Environment): Config {
  return {
    port: readPort(env.CAISSON_PORT),
    address: env.CAISSON_ADDRESS || '127.0.0.1',
    dataDir: resolve(env.CAISSON_DATA_DIR || defaultDataDir(env)),
    databaseUrl: env.DATABASE_URL || null,
    bootstrapToken: readBootstrapToken(env.CAISSON_BOOTSTRAP_TOKEN),
    bootstrapEmail: (env.CAISSON_BOOTSTRAP_EMAIL || 'admin@caisson.local').trim().toLowerCase(),
    maxSourceBytes: readSize('CAISSON_MAX_SOURCE_BYTES', env.CAISSON_MAX_SOURCE_BYTES, defaultMaxSourceBytes),
    maxUnfinishedBuilds: readSize(
      'CAISSON_MAX_UNFINISHED_BUILDS',
      env.CAISSON_MAX_UNFINISHED_BUILDS,
      defaultMaxUnfinishedBuilds,
    ),
    jobMemoryBytes: readSize('CAISSON_JOB_MEMORY_MIB', env.CAISSON_JOB_MEMORY_MIB, defaultJobMemoryMib) * 2 ** 20,
    corsOrigins: (env.CAISSON_CORS_ORIGINS ?? '').split(',').filter((origin) => origin !== ''),
    trustProxy: env.CAISSON_TRUST_PROXY === '1',
    docsBaseUrl: env.CAISSON_DOCS_URL || null,
  };
}

function defaultDataDir(env: Environment): string {
  if (process.getuid?.() === 0) return '/var/lib/caisson';
  return join(env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'caisson');
}

function readPort(text: string | undefined): number {
  const port = Number(text || 4710);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new AppError('invalid_config', `CAISSON_PORT is ${text}; it must be a number from 0 to 65535`);
  }
  return port;
}

function readSize(name: string, text: string | undefined, otherwise: number): number {
  const size = Number(text || otherwise);
  if (!Number.isSafeInteger(size) || size <= 0) {
    throw new AppError('invalid_config', `${name} is ${text}; it must be a positive whole number`);
  }
  return size;
}

function readBootstrapToken(text: string | undefined): string | null {
  if (!text) return null;
  if (!/^hm_[A-Za-z0-9_-]{43}$/.test(text)) {
    throw new AppError('invalid_config', 'CAISSON_BOOTSTRAP_TOKEN must be hm_ followed by 43 base64url characters');
  }
  return text;
}
