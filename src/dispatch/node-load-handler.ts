/** Loads a handler module inside a task thread. */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { messageOf, PermanentError } from '../kernel/errors.js'
import type { Handler } from '../kernel/job.js'

let tsxRegistered = false
let loads = 0

/**
 * @param path absolute path of the module; its default export is the handler
 * @throws PermanentError when there is no such module or no such export: trying again cannot help
 * @throws Error when the module itself throws while it loads: that may pass
 */
export async function loadHandler(path: string): Promise<Handler> {
  if (!existsSync(path)) throw new PermanentError(`handler ${path} does not exist; correct the queue's handler setting`)
  if (/\.[cm]?tsx?$/.test(path)) await registerTsx(path)
  const loaded = await importFresh(path)
  const handler: unknown = loaded['default']
  if (typeof handler !== 'function') {
    throw new PermanentError(`handler ${path} has no default export that is a function; export default async (job, ctx) => …`)
  }
  return handler as Handler
}

async function importFresh(path: string): Promise<Record<string, unknown>> {
  const url = pathToFileURL(path)
  // Node remembers a module that failed to load; another address makes it try again.
  if (loads > 0) url.searchParams.set('load', String(loads))
  loads += 1
  try {
    return (await import(url.href)) as Record<string, unknown>
  } catch (error) {
    throw new Error(`handler ${path} threw while it was loaded: ${messageOf(error)}`, { cause: error })
  }
}

/** TypeScript handlers work when the project that holds them has tsx installed. */
async function registerTsx(path: string): Promise<void> {
  if (tsxRegistered || 'typescript' in process.features) return
  let module: string
  try {
    // Its CommonJS twin, which is what require resolves to, cannot load itself in some versions.
    module = createRequire(path)
      .resolve('tsx/esm/api')
      .replace(/\.cjs$/, '.mjs')
  } catch {
    throw new PermanentError(`handler ${path} is TypeScript and tsx is not installed; npm install tsx, or compile the handler`)
  }
  const { register } = (await import(pathToFileURL(module).href)) as { register: () => void }
  register()
  tsxRegistered = true
}
