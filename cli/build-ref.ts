import { type BuildRef, newestBuilds } from './build-requests.ts';
import { CliError, usageError } from './cli-error.ts';
import { exitCodes } from './exit-codes.ts';
import type { OpenServer } from './open-server.ts';

/**
 * Reads `pipeline#number`, `pipeline/number`, or `pipeline` alone for its newest build. Throws `usage` for anything else and
 * `build_not_found` when the pipeline has none.
 */
export async function readBuildRef(server: OpenServer, org: string, text: string): Promise<BuildRef> {
  const match = /^([a-z0-9-]+)(?:[#/](\d{1,9}))?$/.exec(text);
  const pipeline = match?.[1];
  if (pipeline === undefined) {
    throw usageError(`"${text}" names no build`, 'write pipeline#number, or pipeline for its newest build');
  }
  if (match?.[2] !== undefined) return { org, pipeline, number: Number(match[2]) };
  const [newest] = await newestBuilds(server, { org, pipeline }, 1);
  if (newest !== undefined) return { org, pipeline, number: newest.number };
  throw new CliError(`${pipeline} has no builds yet`, { exitCode: exitCodes.api, code: 'build_not_found' });
}
