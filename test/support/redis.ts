/** A Redis server of one's own for a test: on a free loopback port, in a temporary folder, gone with `stop`. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TestRedis {
  readonly url: string
  readonly port: number
  readonly pid: number
  /** SIGSTOP: connections stay open and nothing answers. */
  pause(): void
  resume(): void
  /** SIGKILL: what was not written is lost. Resolves when the process is gone. */
  kill(): Promise<void>
  /** Starts a killed server again on the same port and folder. */
  restart(): Promise<void>
  /** Ends the server and removes its folder. May be called twice. */
  stop(): Promise<void>
}

export interface TestRedisOptions {
  /** Keep an append-only file, so that a killed server comes back with its data. */
  readonly aof?: boolean
  /** Further arguments, `['--maxmemory-policy', 'allkeys-lru']` for one. */
  readonly args?: readonly string[]
  /** Further environment, for a clock of its own. */
  readonly env?: NodeJS.ProcessEnv
}

/** Starts a server; takes about 50 ms. */
export async function startTestRedis(options: TestRedisOptions = {}): Promise<TestRedis> {
  const dir = await mkdtemp(join(tmpdir(), 'unstuck-redis-'))
  const first = await launchOnFreePort(dir, options)
  const { port } = first
  const launch = () => launchServer(dir, port, options)
  let { server } = first

  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const gone = new Promise<void>((resolve) => server.once('exit', () => resolve()))
    server.kill('SIGCONT')
    server.kill(signal)
    await gone
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return server.pid ?? 0
    },
    pause: () => void server.kill('SIGSTOP'),
    resume: () => void server.kill('SIGCONT'),
    kill: () => end('SIGKILL'),
    restart: async () => {
      await end('SIGKILL')
      server = await launch()
    },
    stop: async () => {
      await end('SIGKILL')
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** Another process may take a port between our finding it free and the server's binding it: then the next one will do. */
async function launchOnFreePort(dir: string, options: TestRedisOptions): Promise<{ port: number; server: ChildProcess }> {
  for (;;) {
    const port = await freePort()
    try {
      return { port, server: await launchServer(dir, port, options) }
    } catch (error) {
      if (!/listening|in use/i.test(String(error))) throw error
    }
  }
}

function launchServer(
  dir: string,
  port: number,
  { aof = false, args = [], env = {} }: TestRedisOptions,
): Promise<ChildProcess> {
  const all = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', aof ? 'yes' : 'no']
  const server = spawn(process.env['REDIS_SERVER_BIN'] || 'redis-server', [...all, '--daemonize', 'no', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  return new Promise((resolve, reject) => {
    let output = ''
    const read = (chunk: Buffer) => {
      output += chunk.toString()
      if (!output.includes('Ready to accept connections')) return
      server.off('exit', failed)
      server.stdout.off('data', read).resume()
      resolve(server)
    }
    const failed = () => reject(new Error(`redis-server ended before it was ready: ${output.trim().split('\n').at(-1)}`))
    server.stdout.on('data', read)
    server.stderr.resume()
    server.once('exit', failed)
    server.once('error', reject)
  })
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve))
  const address = probe.address()
  await new Promise<void>((resolve) => probe.close(() => resolve()))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
