/** The package as a stranger gets it: packed, installed into an empty folder, and used there, on each version of Node. */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { Queue } from 'bullmq'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { readBeats } from '../../src/heartbeat/redis-heartbeats.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { launch, scene, until } from '../support/processes.js'

const ROOT = resolve(import.meta.dirname, '../..')
const require = createRequire(import.meta.url)
const TSC = require.resolve('typescript/bin/tsc')
const ATTW = join(dirname(require.resolve('@arethetypeswrong/cli/package.json')), 'dist/index.js')
const execute = promisify(execFile)

/** The one that runs this, and those that `scripts/ensure.mjs` brings: the oldest that will do, and what is current. */
const NODES = [
  { version: process.versions.node, node: process.execPath },
  ...['20', '22', '24'].map((version) => ({
    version,
    node: join(ROOT, `test/nodes/node_modules/node${version}-${process.arch}/bin/node`),
  })),
]

/** Some of what each gives. */
const ENTRIES: Readonly<Record<string, readonly string[]>> = {
  unstuck: ['Dispatcher', 'PermanentError', 'defineConfig', 'pulse', 'watchLoop', 'watchWorker'],
  'unstuck/handler': ['FenceLostError', 'PermanentError', 'assertFence', 'heartbeat', 'step'],
  'unstuck/watch': ['pulse', 'watchLoop', 'watchWorker'],
}

const CONSUMER = `import { defineConfig, Dispatcher, type Handler, type JobContext, PermanentError, UserError } from 'unstuck'
import { heartbeat, step } from 'unstuck/handler'
import { type Watch, watchLoop, watchWorker } from 'unstuck/watch'
import { type Job, Worker } from 'bullmq'
export default defineConfig({ queues: { mail: { handler: './mail.mjs', attempts: { max: 3 } } } })
export const handler: Handler<{ to: string }, string> = async ({ data }, ctx: JobContext) => ctx.step('send', () => data.to)
export const id: Promise<string> = Dispatcher.connect().then((dispatcher) => dispatcher.add('mail', { to: 'x' }, { priority: 1 }))
export const errors: Error[] = [new PermanentError('never'), new UserError('INPUT_INVALID', 'x: y; z')]
export const watch: Watch = watchWorker(new Worker('mail', (job: Job) => step('send', () => job.id), { connection: {} }), { silentAfterMs: 1000 })
export const cycle: Promise<number | undefined> = watchLoop('poll', { intervalMs: 1000 }).cycle((phase) => (phase('x'), heartbeat(), 1))
// @ts-expect-error a key that does not exist
defineConfig({ queues: { mail: { handlr: './mail.mjs' } } })
`

/** An application of somebody's, as an ES module and as CommonJS. */
const WATCHED = `const worker = new Worker('mail', ({ data }) => step('send', () => 'sent to ' + data.to), { connection: { url: process.env.REDIS_URL } })
watchWorker(worker, { name: 'packed-app' }).ready.then(() => console.log('{"event":"ready"}'))
process.once('SIGTERM', () => worker.close())
`
const APPLICATIONS = {
  'watched.mjs': `import { Worker } from 'bullmq'
import { step } from 'unstuck/handler'
import { watchWorker } from 'unstuck/watch'
${WATCHED}`,
  'watched.cjs': `const { Worker } = require('bullmq')
const { step } = require('unstuck/handler')
const { watchWorker } = require('unstuck/watch')
${WATCHED}`,
}

const FILES = {
  ...APPLICATIONS,
  'consumer.ts': CONSUMER,
  'imports.cjs': `for (const entry of process.argv.slice(2)) {
  const required = Object.keys(require(entry)).sort()
  import(entry).then((imported) => console.log(JSON.stringify({ entry, required, imported: Object.keys(imported).sort() })))
}
`,
  'mail.mjs': `export default ({ data }, ctx) => ctx.step('send', () => data.to === 'nobody' ? new Promise(() => undefined) : 'sent to ' + data.to)`,
  'unstuck.config.mjs': `import { defineConfig } from 'unstuck'
export default defineConfig({ supervisor: { drainMs: 100 }, queues: { mail: { handler: './mail.mjs', threads: 1 } } })`,
}

/** Packed and installed once; no test changes anything there. */
const dir = mkdtempSync(join(tmpdir(), 'unstuck-package-'))
const app = join(dir, 'app')
const bin = join(app, 'node_modules/unstuck/dist/cli/main.js')
const tarball = () => join(dir, readdirSync(dir).find((file) => file.endsWith('.tgz')) ?? '')

beforeAll(async () => {
  // Its build would compile what other tests run; dist is there already.
  await execute('npm', ['pack', '--ignore-scripts', '--pack-destination', dir], { cwd: ROOT })
  mkdirSync(app)
  writeFileSync(join(app, 'package.json'), '{"name":"app","private":true,"type":"module"}')
  for (const [file, text] of Object.entries(FILES)) writeFileSync(join(app, file), text)
  // Our overrides do not reach here: npm reads only those of the folder that it installs into.
  await execute('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', tarball()], { cwd: app })
}, 300_000)

afterAll(() => rmSync(dir, { recursive: true, force: true }))

describe('the package', () => {
  it('brings its command, and its types compile', async () => {
    const help = await execute('npx', ['--no-install', 'unstuck', '--help'], { cwd: app })
    expect(help.stdout).toMatch(/Usage: unstuck[\s\S]*supervisor[\s\S]*watchdog[\s\S]*enqueue/)
    const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2022']
    await execute(process.execPath, [TSC, ...flags, 'consumer.ts'], { cwd: app }).catch((error: { stdout: string }) => {
      throw new Error(error.stdout)
    })
  })

  it('holds what is needed and nothing else', async () => {
    const { stdout } = await execute('npm', ['pack', '--ignore-scripts', '--dry-run', '--json'], { cwd: ROOT })
    const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }]
    const paths = files.map(({ path }) => path)
    const needed = ['package.json', 'README.md', 'CHANGELOG.md', 'docs/reference.md']
    const built = ['index', 'handler', 'watch/index'].flatMap((entry) => [`dist/${entry}.js`, `dist/${entry}.d.ts`])
    expect(paths).toEqual(expect.arrayContaining([...needed, ...built, 'dist/cli/main.js']))
    const known = /^(dist\/|examples\/|docs\/[a-z-]+\.md$|package\.json$|README\.md$|CHANGELOG\.md$|LICENSE$)/
    expect(paths.filter((path) => !known.test(path))).toEqual([])
    expect(paths.filter((path) => /tsbuildinfo|\.test\.|node_modules/.test(path))).toEqual([])
  })

  it('is clean for publint, and its types resolve for attw from each kind of import', async () => {
    const { buffer } = Uint8Array.from(readFileSync(tarball()))
    const { messages, pkg } = await publint({ pack: { tarball: buffer }, strict: true })
    expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([])
    // It takes a `require` of an ES module for an error, as it was before Node 20.19; the tests below do it. Profile: not for
    // `moduleResolution: node10`, which reads no exports at all.
    const args = ['--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm', '--format', 'ascii', '--no-emoji', tarball()]
    await execute(process.execPath, [ATTW, ...args], { cwd: ROOT }).catch((error: { stdout: string }) => {
      throw new Error(error.stdout)
    })
  })
})

describe.each(NODES)('the package on Node $version', ({ version, node }) => {
  it('gives the same from all its entries to import and to require, and says its version', async () => {
    const { stdout: running } = await execute(node, ['--version'])
    expect(running).toMatch(new RegExp(`^v${version.split('.')[0]}\\.`))
    const { stdout } = await execute(node, ['imports.cjs', ...Object.keys(ENTRIES)], { cwd: app })
    const seen = stdout.trim().split('\n')
    expect(seen).toHaveLength(Object.keys(ENTRIES).length)
    for (const line of seen) {
      const { entry, required, imported } = JSON.parse(line) as Record<'required' | 'imported', string[]> & { entry: string }
      expect(imported).toEqual(expect.arrayContaining([...(ENTRIES[entry] ?? [])]))
      // Node marks what was required from an ES module so that other tools take it for one.
      expect(required.filter((name) => name !== '__esModule')).toEqual(imported)
    }
    const said = await execute(node, [bin, '--version'], { cwd: app })
    expect(said.stdout.trim()).toBe(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version)
  })

  it.each(Object.keys(APPLICATIONS))('watches the worker of %s, which runs its job and says goodbye', async (file) => {
    const { redis, client } = await scene()
    const queue = new Queue('mail', { connection: { url: redis.url } })
    onTestFinished(() => queue.close())
    const running = launch(node, [file], { cwd: app, env: { REDIS_URL: redis.url } })
    await running.line(({ event }) => event === 'ready')
    const beat = async () => (await readBeats(client, fleetKeys('{unstuck}'), ['packed-app']))[0]
    const seen = await until(beat, (one) => one?.beat?.loops[0]?.state === 'polling')
    expect(seen).toMatchObject({ bye: false, beat: { loops: [{ loop: 'fetch', queue: 'mail' }] } })
    await queue.add('send', { to: 'you' }, { jobId: 'first' })
    expect(await returned(client, 'first')).toBe('"sent to you"')
    running.kill('SIGTERM')
    expect(await running.exited, running.output()).toBe(0)
    expect(await beat()).toMatchObject({ bye: true })
    expect(running.output()).not.toContain('UnstuckWarning')
  })

  it('runs a job in a thread, shows where one hangs, and watches', async () => {
    const { redis, client } = await scene()
    const env = { REDIS_URL: redis.url }
    const watchdog = launch(node, [bin, 'watchdog', '--port', '0'], { cwd: app, env })
    const supervisor = launch(node, [bin, 'supervisor', '--port', '0', '--name', 'packed'], { cwd: app, env })
    await Promise.all([watchdog, supervisor].map((one) => one.line(({ event }) => event === 'started')))
    const enqueue = async (jobId: string, to: string) => {
      const args = ['enqueue', 'mail', '--data', JSON.stringify({ to }), '--job-id', jobId]
      await execute(node, [bin, ...args], { cwd: app, env: { ...process.env, ...env } })
    }
    await enqueue('first', 'you')
    expect(await returned(client, 'first')).toBe('"sent to you"')
    await enqueue('second', 'nobody')
    const args = [bin, 'dump', 'packed', '--json']
    const dump = () =>
      execute(node, args, { cwd: app, env: { ...process.env, ...env } }).then(
        ({ stdout }) => stdout,
        // Refused on a busy machine; asked again, and shown if it stays so.
        ({ stderr }: { stderr: string }) => stderr,
      )
    const shown = await until(dump, (text) => text.includes('mail.mjs'))
    expect(shown).toMatch(/"name":\s*"send"/)
    for (const one of [supervisor, watchdog]) {
      one.kill('SIGTERM')
      expect(await one.exited, one.output()).toBe(0)
    }
  })
})

function returned(client: { hget(key: string, field: string): Promise<string | null> }, id: string): Promise<string | null> {
  return until(
    () => client.hget(`bull:mail:${id}`, 'returnvalue'),
    (value) => value !== null,
  )
}
