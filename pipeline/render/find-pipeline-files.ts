import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Folders of a repository that hold pipeline files, in the order they are read. */
const folders = ['.caisson', '.hm'] as const;
const maxFiles = 200;
const maxFileBytes = 4 * 1024 * 1024;

/**
 * Pipeline files of the repository, relative to its root, sorted within each folder. Nothing is executed. Throws when there are
 * none, or too many, or one is too big.
 */
export function findPipelineFiles(workspace: string): readonly string[] {
  const names = folders.flatMap((folder) => listFolder(workspace, folder));
  const files = names.filter((name) => /(?<!\.d|\.test)\.ts$/.test(name));
  if (files.length === 0) throw new Error(explainNone(names));
  if (files.length > maxFiles) throw new Error(`${files.length} pipeline files; at most ${maxFiles} are read.`);
  for (const file of files) checkFile(workspace, file);
  return files;
}

function listFolder(workspace: string, folder: string): readonly string[] {
  try {
    return readdirSync(join(workspace, folder), { withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => `${folder}/${entry.name}`)
      .sort();
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return [];
    throw new Error(`${folder} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function explainNone(names: readonly string[]): string {
  const python = names.find((name) => name.endsWith('.py'));
  return python === undefined
    ? 'no pipeline file found. Write .caisson/pipeline.ts, or run in the folder that holds .caisson.'
    : `${python} is written in Python; only TypeScript pipelines (.caisson/*.ts or .hm/*.ts) can be rendered.`;
}

function checkFile(workspace: string, file: string): void {
  const { sizeBytes, isFile } = measure(workspace, file);
  if (!isFile) throw new Error(`${file} is not a regular file.`);
  if (sizeBytes > maxFileBytes) throw new Error(`${file} has ${sizeBytes} bytes; at most ${maxFileBytes} are read.`);
}

function measure(workspace: string, file: string): { readonly sizeBytes: number; readonly isFile: boolean } {
  try {
    const found = statSync(join(workspace, file));
    return { sizeBytes: found.size, isFile: found.isFile() };
  } catch (error) {
    throw new Error(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}
