/**
 * A Redis of one's own, for `up` on a machine where none is given. It owns one server process on loopback, in a folder
 * that outlives it, and makes sure of two things: the server never outlives this process, also when that is killed
 * with SIGKILL, and it never ends before it, so that supervisors can drain after a Ctrl-C. It does not restart a
 * server that died: the watchdogs report that.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { delimiter, join, resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { UserError } from '../kernel/errors.js'
import { connectRedis } from './redis.js'

export type EmbeddedRedisKind = 'redis-server' | 'valkey-server' | 'js-redis-server'

export interface EmbeddedRedis {
  readonly url: string
  readonly kind: EmbeddedRedisKind
  /** True for the last resort, which is for a demonstration only: see `REDUCED_BANNER` and `REDUCED_LIMITS`. */
  readonly reduced: boolean
  /** The server's process. */
  readonly pid: number
  /** Ends the server and waits for it. May be called twice. */
  stop(): Promise<void>
}

export interface EmbeddedRedisOptions {
  /** The server's own folder; made when missing, its append-only file is used again. */
  readonly dir: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: { error(fields: object, message: string): void }
}

/** What the last resort may carry. */
export const REDUCED_LIMITS = { jobs: 300, slots: 10 } as const

/** One line for whoever runs on the last resort. */
export const REDUCED_BANNER =
  `REDUCED FIDELITY: no redis-server found, running on js-redis-server. For a demo only: at most ${REDUCED_LIMITS.jobs} jobs ` +
  `and ${REDUCED_LIMITS.slots} slots, nothing is persisted. Install one with: apt-get install redis-server, or brew install redis`

interface Program {
  readonly kind: EmbeddedRedisKind
  readonly command: string
  /** The arguments for a port. */
  readonly args: (port: number) => readonly string[]
}

/** @throws UserError REDIS_MISSING when there is no server to start, REDIS_UNREACHABLE when it does not come up */
export async function startEmbeddedRedis({ dir, env, log }: EmbeddedRedisOptions): Promise<EmbeddedRedis> {
  const folder = resolve(dir)
  const program = findProgram(folder, env)
  mkdirSync(folder, { recursive: true })
  await refuseFolderInUse(folder)
  const { server, port, pid } = await launchOnFreePort(program)
  writeFileSync(join(folder, PORT_FILE), String(port))

  let stopping: Promise<void> | undefined
  server.once('exit', (code, signal) => {
    if (stopping) return
    log.error(
      { event: 'embedded_redis_ended', pid },
      `the embedded ${program.kind} ended by itself (${signal ?? `exit code ${code}`})`,
    )
  })
  return {
    url: `redis://127.0.0.1:${port}`,
    kind: program.kind,
    reduced: program.kind === 'js-redis-server',
    pid,
    stop: () => {
      stopping ??= end(server, pid)
      return stopping
    },
  }
}

function findProgram(dir: string, env: EmbeddedRedisOptions['env']): Program {
  const given = env['REDIS_SERVER_BIN']
  if (given) {
    if (!isExecutable(given)) {
      throw new UserError('REDIS_MISSING', `REDIS_SERVER_BIN: ${given} is no program that can be run; correct the path`)
    }
    return native(given.includes('valkey') ? 'valkey-server' : 'redis-server', given, dir)
  }
  for (const kind of ['redis-server', 'valkey-server'] as const) {
    const path = onPath(kind, env['PATH'])
    if (path !== undefined) return native(kind, path, dir)
  }
  const script = lastResort()
  if (script === undefined) {
    throw new UserError(
      'REDIS_MISSING',
      'redis: no redis-server or valkey-server found; install one (apt-get install redis-server, or brew install redis) or set REDIS_URL',
    )
  }
  return { kind: 'js-redis-server', command: process.execPath, args: (port) => [script, '--port', String(port)] }
}

function native(kind: 'redis-server' | 'valkey-server', command: string, dir: string): Program {
  const settings = {
    ...{ bind: '127.0.0.1', dir, daemonize: 'no', supervised: 'no' },
    ...{ appendonly: 'yes', appendfsync: 'everysec', save: '', 'maxmemory-policy': 'noeviction' },
  }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
  return { kind, command, args: (port) => ['--port', String(port), ...args] }
}

function onPath(name: string, path = ''): string | undefined {
  const candidates = path.split(delimiter).filter(Boolean)
  return candidates.map((folder) => join(folder, name)).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The script of js-redis-server, an optional dependency that needs Node 22. */
function lastResort(): string | undefined {
  if (Number(process.versions.node.split('.')[0]) < 22) return undefined
  try {
    const script = fileURLToPath(new URL('cli.js', import.meta.resolve('js-redis-server')))
    return existsSync(script) ? script : undefined
  } catch {
    return undefined
  }
}

/** Where the last server of a folder listened: two servers on one append-only file would destroy it. */
const PORT_FILE = 'port'

/** How long the server of a process that was just killed may take to end, milliseconds. */
const HANDOVER_MS = 3000

async function refuseFolderInUse(dir: string): Promise<void> {
  const file = join(dir, PORT_FILE)
  const port = existsSync(file) ? readFileSync(file, 'utf8').trim() : ''
  if (!/^\d+$/.test(port)) return
  const deadline = performance.now() + HANDOVER_MS
  while (await servesFolder(`redis://127.0.0.1:${port}`, dir)) {
    if (performance.now() > deadline) {
      throw new UserError(
        'PORT_IN_USE',
        `${dir}: a Redis on port ${port} already runs in this folder; stop the other \`unstuck up\` first`,
      )
    }
    await new Promise((next) => setTimeout(next, 100))
  }
}

async function servesFolder(url: string, dir: string): Promise<boolean> {
  const client = connectRedis(url, 'watch', {
    commandTimeout: 500,
    connectTimeout: 500,
    lazyConnect: true,
    retryStrategy: null,
  })
  try {
    await client.connect()
    const reply = await client.config('GET', 'dir')
    return Array.isArray(reply) && reply[1] === dir
  } catch {
    return false
  } finally {
    client.disconnect()
  }
}

type Server = ChildProcessByStdio<Writable, Readable, Readable>

/** How often another port is tried when somebody took the free one in between. */
const PORT_TRIES = 3

async function launchOnFreePort(program: Program): Promise<{ server: Server; port: number; pid: number }> {
  for (let tries = 1; ; tries++) {
    const port = await freePort()
    const outcome = await launch(program, port)
    if (typeof outcome !== 'string') return { ...outcome, port }
    if (tries < PORT_TRIES && outcome.includes('in use')) continue
    throw new UserError('REDIS_UNREACHABLE', `embedded ${program.kind} (${program.command}): did not start: ${outcome}`)
  }
}

/**
 * Runs the server for as long as standard input stays open. The kernel closes it whatever ends this process, so the
 * server goes too; the reader is a process of its own because `read` would hide the server's end from the shell.
 */
const GUARD = `
exec 3<&0
"$@" 3<&- &
server=$!
echo "guarded $server"
{ read -r _ <&3; kill "$server"; } 2>/dev/null &
reader=$!
wait "$server"
code=$?
kill "$reader" 2>/dev/null
exit "$code"
`

/** How long a server may take to load its data and answer, milliseconds. */
const START_LIMIT_MS = 60_000

/** A started server, or the last thing that a failed one said. */
function launch({ command, args }: Program, port: number): Promise<{ server: Server; pid: number } | string> {
  // A group of its own: Ctrl-C reaches every process of the terminal's group, and Redis must outlive the drain.
  const server = spawn('sh', ['-c', GUARD, 'redis-guard', command, ...args(port)], {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  // Writing to a guard that is gone is no error of ours.
  server.stdin.on('error', () => undefined)
  return new Promise((settle) => {
    let output = ''
    const finish = (outcome: { server: Server; pid: number } | string) => {
      clearTimeout(limit)
      for (const stream of [server.stdout, server.stderr]) stream.removeListener('data', read).resume()
      settle(outcome)
    }
    const read = (chunk: Buffer) => {
      output += chunk.toString()
      const pid = /^guarded (\d+)$/m.exec(output)?.[1]
      if (pid !== undefined && /Ready to accept connections|server listening at/.test(output))
        finish({ server, pid: Number(pid) })
    }
    const limit = setTimeout(() => {
      server.stdin.end()
      finish(`not ready after ${START_LIMIT_MS} ms`)
    }, START_LIMIT_MS)
    server.stdout.on('data', read)
    server.stderr.on('data', read)
    // `close`, not `exit`: the reason is in what is still to be read.
    server.once('close', (code) => finish(lastWords(output) ?? `exit code ${code}`))
    server.once('error', (error) => finish(error.message))
  })
}

function lastWords(output: string): string | undefined {
  const lines = output.split('\n').map((line) => line.trim())
  return lines.filter((line) => line !== '' && !line.startsWith('guarded ')).at(-1)
}

/** How long a server may take to write and leave before it is killed, milliseconds. */
const STOP_LIMIT_MS = 5000

async function end(server: Server, pid: number): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const gone = new Promise<void>((resolveGone) => server.once('exit', () => resolveGone()))
  server.stdin.end()
  const limit = setTimeout(() => kill(pid, 'SIGKILL'), STOP_LIMIT_MS)
  await gone
  clearTimeout(limit)
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // Gone meanwhile: that was the aim.
  }
}

async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((ready, fail) => probe.once('error', fail).listen(0, '127.0.0.1', ready))
  const address = probe.address()
  await new Promise<void>((closed) => probe.close(() => closed()))
  if (address === null || typeof address === 'string') throw new Error('no free port on loopback')
  return address.port
}
