/** The processes that the bench starts: none of them outlives it, whatever ends it. */
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const running = new Set()
export const scratch = mkdtempSync(join(tmpdir(), 'unstuck-bench-'))

function kept(child) {
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

export function endAll() {
  for (const child of running) child.kill('SIGKILL')
  // Sessions end a moment after their supervisor, and write until then.
  rmSync(scratch, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
}

/** A module of bench/lib in a process of its own; what it says on stderr is shown. */
export function forkModule(name, args = []) {
  const stdio = ['ignore', 'ignore', 'inherit', 'ipc']
  return kept(fork(fileURLToPath(new URL(name, import.meta.url)), args, { stdio, execArgv: ['--no-warnings'] }))
}

/** Resolves with the child at its first message: then it is ready. */
export async function started(child) {
  await new Promise((resolve) => child.once('message', resolve))
  return child
}

/** Sends one order and waits for its answer; a child answers in order. */
export async function ask(child, order) {
  const gone = new AbortController()
  try {
    child.send(order)
    const [answer] = await Promise.race([
      once(child, 'message', { signal: gone.signal }),
      once(child, 'exit', { signal: gone.signal }).then(([code]) => {
        throw new Error(`a process of the bench ended with code ${code} while asked for ${JSON.stringify(order)}`)
      }),
    ])
    return answer
  } finally {
    gone.abort()
  }
}

export async function end(child, signal = 'SIGKILL') {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill(signal)
  await exited
}

/** A command of the product, as a user starts it. @param onLine told of every JSON line that it logs */
export function startCommand(args, onLine, cwd = scratch) {
  const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
  const child = kept(spawn(process.execPath, [main, ...args], { cwd, stdio: ['ignore', 'pipe', 'inherit'] }))
  createInterface({ input: child.stdout }).on('line', (text) => {
    if (text.startsWith('{')) onLine(JSON.parse(text))
  })
  return child
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** A Redis of its own: nothing persisted, nothing evicted. @returns its address */
export async function startRedis() {
  const port = await freePort()
  const flags = { port, bind: '127.0.0.1', save: '', appendonly: 'no', 'maxmemory-policy': 'noeviction', dir: scratch }
  const args = Object.entries(flags).flatMap(([key, value]) => [`--${key}`, String(value)])
  const server = kept(spawn(process.env.REDIS_SERVER_BIN ?? 'redis-server', args, { stdio: 'ignore' }))
  for (let tries = 0; ; tries += 1) {
    if (server.exitCode !== null) throw new Error('redis-server did not start; install it or name it in REDIS_SERVER_BIN')
    const socket = connect(port, '127.0.0.1')
    const up = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]).catch(
      () => false,
    )
    socket.destroy()
    if (up) return `redis://127.0.0.1:${port}`
    if (tries > 100) throw new Error('redis-server does not answer')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const TICK_MICROS = 10_000

/** CPU that a process has used, all its threads, microseconds, in steps of a kernel tick. Linux only. */
export function cpuMicrosOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK_MICROS
}

export function childrenOf(pid) {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
}

export function rssMbOf(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}
