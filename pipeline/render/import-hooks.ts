import { registerHooks } from 'node:module';

type ResolveHook = NonNullable<Parameters<typeof registerHooks>[0]['resolve']>;

const publicEntry = new URL('../pipeline.ts', import.meta.url).href;
const ownNames = ['@caisson/pipeline', '@harmont/hm'];

/**
 * Makes pipeline files importable as they are: a repository has no `node_modules` when it is rendered, so the DSL comes from these
 * tools; a `.ts` file is a module whatever the nearest package.json says; and `./steps` finds `./steps.ts`.
 * `workspaceUrl` ends in a slash.
 */
export function hookImports(workspaceUrl: string): void {
  const resolve: ResolveHook = (specifier, context, nextResolve) => {
    if (context.parentURL?.startsWith(workspaceUrl) !== true && !specifier.startsWith(workspaceUrl)) {
      return nextResolve(specifier, context);
    }
    if (ownNames.includes(specifier)) return { url: publicEntry, format: 'module-typescript', shortCircuit: true };
    const found = resolveInWorkspace(specifier, context, nextResolve);
    return found.url.endsWith('.ts') ? { ...found, format: 'module-typescript' } : found;
  };
  registerHooks({ resolve });
}

function resolveInWorkspace(...[specifier, context, nextResolve]: Parameters<ResolveHook>): ReturnType<ResolveHook> {
  try {
    return nextResolve(specifier, context);
  } catch (error) {
    const relative = /^\.{1,2}\//.test(specifier);
    for (const candidate of relative
      ? [specifier.replace(/\.js$/, '.ts'), `${specifier}.ts`, `${specifier}/index.ts`]
      : []) {
      try {
        return nextResolve(candidate, context);
      } catch {}
    }
    throw relative || specifier.startsWith('node:') ? error : new Error(explainPackage(specifier), { cause: error });
  }
}

function explainPackage(specifier: string): string {
  const own = ownNames.find((name) => specifier.startsWith(`${name}/`));
  return own === undefined
    ? `cannot import "${specifier}": a pipeline file can import @caisson/pipeline, node: modules and files of its repository; no packages are installed when it is rendered.`
    : `cannot import "${specifier}": everything a pipeline file needs is in "${own}"; there are no ready-made toolchains yet.`;
}
