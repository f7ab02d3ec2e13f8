/** A real watchdog process, and the lines that it writes, stamped when they arrive here. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { endAll, freePort, scratch, startCommand } from './processes.mjs'

const noop = fileURLToPath(new URL('./noop-handler.mjs', import.meta.url))

export function configFile(name, config) {
  const path = join(scratch, `${name}.json`)
  writeFileSync(path, JSON.stringify({ log: { format: 'json' }, ...config }))
  return path
}

export const queuesOf = (names, thresholds = {}) =>
  Object.fromEntries(names.map((name) => [name, { handler: noop, threads: 1, ...thresholds }]))

/** @param onLine told of each STUCK and RESUMED line with the moment of its arrival, by performance.now */
export async function startWatchdog(name, config, onLine = () => undefined) {
  const port = await freePort()
  let started = () => undefined
  const ready = new Promise((resolve) => {
    started = resolve
  })
  const child = startCommand(['watchdog', '--config', configFile(name, { ...config, http: { port } })], (line) => {
    const at = performance.now()
    if (line.event === 'stuck' || line.event === 'resumed' || line.event === 'flapping') onLine(line, at)
    else if (line.event === 'started') started()
    else process.stderr.write(`${name}: ${line.msg}\n`)
  })
  child.once('exit', (code) => {
    if (code === 0 || code === null) return
    process.stderr.write(`${name}: ended with code ${code}\n`)
    endAll()
    process.exit(1)
  })
  await ready
  return { child, port }
}

/** Waits for STUCK and RESUMED lines by what they say. What nobody waits for is a false alarm. */
export class Lines {
  falseAlarms = []
  #awaited = new Map()
  #onStuck

  /** @param onStuck called with every awaited STUCK line */
  constructor(onStuck) {
    this.#onStuck = onStuck
  }

  heard = (line, at) => {
    const { event, cause, subject, queue, jobId } = line
    const keys = [`${event} ${cause} ${subject}`, `${event} ${cause} ${queue}/${jobId}`, `${event} ${cause}`]
    const key = keys.find((candidate) => this.#awaited.has(candidate))
    if (event === 'stuck') this.#onStuck(line)
    if (key === undefined) {
      if (event !== 'resumed') this.falseAlarms.push(line.msg)
      return
    }
    this.#awaited.get(key)(at)
    this.#awaited.delete(key)
  }

  /** @returns when the line came, or undefined when it did not come in time */
  next(event, cause, what, limitMs = 20_000) {
    const key = [event, cause, ...(what === undefined ? [] : [what])].join(' ')
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#awaited.delete(key)
        resolve(undefined)
      }, limitMs)
      this.#awaited.set(key, (at) => {
        clearTimeout(timer)
        resolve(at)
      })
    })
  }
}
