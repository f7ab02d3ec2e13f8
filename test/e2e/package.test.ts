/** The package as a stranger gets it: packed, installed into an empty folder, and used there. */
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { launch, scene, until } from '../support/processes.js'

const ROOT = resolve(import.meta.dirname, '../..')
const TSC = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const execute = promisify(execFile)

const CONSUMER = `import { defineConfig, Dispatcher, type Handler, type JobContext, PermanentError, UserError } from 'unstuck'
export default defineConfig({ queues: { mail: { handler: './mail.mjs', attempts: { max: 3 } } } })
export const handler: Handler<{ to: string }, string> = async ({ data }, ctx: JobContext) => ctx.step('send', () => data.to)
export const id: Promise<string> = Dispatcher.connect().then((dispatcher) => dispatcher.add('mail', { to: 'x' }, { priority: 1 }))
export const errors: Error[] = [new PermanentError('never'), new UserError('INPUT_INVALID', 'x: y; z')]
// @ts-expect-error a key that does not exist
defineConfig({ queues: { mail: { handlr: './mail.mjs' } } })
`

describe('the package', () => {
  it('installs into an empty folder, shows its help, runs a job, and its types compile', async () => {
    const { dir, redis, client } = await scene()
    const app = join(dir, 'app')
    mkdirSync(app)
    // Its build would compile what other tests run; dist is there already.
    await execute('npm', ['pack', '--ignore-scripts', '--pack-destination', dir], { cwd: ROOT })
    const packed = readdirSync(dir).find((file) => file.endsWith('.tgz')) ?? ''
    writeFileSync(join(app, 'package.json'), '{"name":"app","private":true,"type":"module"}')
    // Our overrides do not reach here: npm reads only those of the folder that it installs into.
    await execute('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', join(dir, packed)], { cwd: app })

    const help = await execute('npx', ['--no-install', 'unstuck', '--help'], { cwd: app })
    expect(help.stdout).toMatch(/Usage: unstuck[\s\S]*supervisor[\s\S]*watchdog[\s\S]*enqueue/)

    writeFileSync(join(app, 'mail.mjs'), "export default async ({ data }, ctx) => ctx.step('send', () => 'sent to ' + data.to)")
    writeFileSync(
      join(app, 'unstuck.config.mjs'),
      "import { defineConfig } from 'unstuck'\nexport default defineConfig({ queues: { mail: { handler: './mail.mjs', threads: 1 } } })",
    )
    const bin = join(app, 'node_modules', '.bin', 'unstuck')
    const env = { REDIS_URL: redis.url }
    const supervisor = launch(bin, ['supervisor', '--port', '0'], { cwd: app, env })
    await supervisor.line(({ event }) => event === 'started')
    const added = launch(bin, ['enqueue', 'mail', '--data', '{"to":"you"}', '--job-id', 'first'], { cwd: app, env })
    expect(await added.exited).toBe(0)
    const result = await until(
      () => client.hget('bull:mail:first', 'returnvalue'),
      (value) => value !== null,
    )
    expect(result).toBe('"sent to you"')
    supervisor.kill('SIGTERM')
    expect(await supervisor.exited).toBe(0)

    writeFileSync(join(app, 'consumer.ts'), CONSUMER)
    const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2022']
    await execute(process.execPath, [TSC, ...flags, 'consumer.ts'], { cwd: app }).catch((error: { stdout: string }) => {
      throw new Error(error.stdout)
    })
  })

  it('holds what is needed and nothing else', async () => {
    const { stdout } = await execute('npm', ['pack', '--ignore-scripts', '--dry-run', '--json'], { cwd: ROOT })
    const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }]
    const paths = files.map(({ path }) => path)
    expect(paths).toEqual(
      expect.arrayContaining(['package.json', 'README.md', 'dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js']),
    )
    expect(paths.filter((path) => !/^(dist\/|examples\/|package\.json$|README\.md$|LICENSE$)/.test(path))).toEqual([])
    expect(paths.filter((path) => /tsbuildinfo|\.test\./.test(path))).toEqual([])
  })
})
