/**
 * Serves the dashboard: static ES modules beside this file, and the libraries they use from the installed packages. There
 * is no build step: the few bare imports inside the libraries are turned into addresses here, since an import map would
 * have to stand inline, which the content policy forbids.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance } from 'fastify'

const FOLDER = fileURLToPath(new URL('./dashboard/', import.meta.url))
const require = createRequire(import.meta.url)

const JAVASCRIPT = 'text/javascript; charset=utf-8'
const CSS = 'text/css; charset=utf-8'
/** The page and the watchdog are of one version: an upgrade must not leave half of the old page behind. */
const CACHE = 'no-cache'

export interface VendorFile {
  readonly type: string
  readonly text: string
}

/** What lies below `/assets/vendor/`, read once. */
export function vendorFiles(): ReadonlyMap<string, VendorFile> {
  const preact = readFileSync(require.resolve('preact'), 'utf8')
  const hooks = readFileSync(require.resolve('preact/hooks'), 'utf8').replace(/from\s*(["'])preact\1/g, 'from"./preact.js"')
  const htm = readFileSync(join(dirname(require.resolve('htm')), 'htm.module.js'), 'utf8')
  const uplot = dirname(require.resolve('uplot'))
  // The minified build is a classic script; its one variable becomes the export.
  const plot = `${readFileSync(join(uplot, 'uPlot.iife.min.js'), 'utf8')}\nexport default uPlot\n`
  return new Map([
    ...[
      ['preact.js', preact] as const,
      ['hooks.js', hooks] as const,
      ['htm.js', htm] as const,
      ['uplot.js', plot] as const,
    ].map(([name, text]) => [name, { type: JAVASCRIPT, text: withoutMap(text) }] as const),
    ['uplot.css', { type: CSS, text: readFileSync(join(uplot, 'uPlot.min.css'), 'utf8') }],
  ])
}

/** A map that is not served would be an error in the browser's tools. */
function withoutMap(text: string): string {
  return text.replace(/^\/\/# sourceMappingURL=.*$/gm, '')
}

/** `/` and `/assets/…`. Access and security headers are the server's. */
export async function addDashboard(server: FastifyInstance): Promise<void> {
  const page = readFileSync(join(FOLDER, 'index.html'), 'utf8')
  server.get('/', async (_request, reply) => reply.type('text/html; charset=utf-8').header('cache-control', CACHE).send(page))
  for (const [name, { type, text }] of vendorFiles()) {
    server.get(`/assets/vendor/${name}`, async (_request, reply) => reply.type(type).header('cache-control', CACHE).send(text))
  }
  await server.register(fastifyStatic, {
    root: FOLDER,
    prefix: '/assets/',
    decorateReply: false,
    index: false,
    dotfiles: 'deny',
    wildcard: false,
    cacheControl: false,
    setHeaders: (reply) => void reply.header('cache-control', CACHE),
  })
}
