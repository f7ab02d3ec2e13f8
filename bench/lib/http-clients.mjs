/**
 * Clients of a watchdog's API, in a process of their own: listeners to its events, and readers who ask at a steady pace
 * whether the answers before have come or not. An answer's time counts from the moment when its question was due.
 *
 * usage (forked): http-clients.mjs PORT PATHS; orders: {listeners, readsPerSecond} → 'listening', and 'end' → measures.
 * PATHS is JSON, one address a kind; they take turns.
 */
import { once } from 'node:events'
import { Agent, get } from 'node:http'

const [portText, pathsText] = process.argv.slice(2)
const paths = JSON.parse(pathsText)
const where = { host: '127.0.0.1', port: Number(portText) }
const TICK_MS = 5
const SOCKETS = 64
/** As many questions may be open; what falls due beyond them is not asked, and counts as not served. */
const MAX_OPEN = 2000

let load

async function listen() {
  const request = get({ ...where, path: '/api/v1/events', agent: false })
  const [response] = await once(request, 'response')
  if (response.statusCode !== 200) throw new Error(`http-clients: /api/v1/events answered ${response.statusCode}`)
  const listener = { request, stuck: 0, isLost: false }
  let rest = ''
  const live = new Promise((resolve) => {
    response.setEncoding('utf8').on('data', (chunk) => {
      const frames = (rest + chunk).split('\n\n')
      rest = frames.pop()
      for (const frame of frames) {
        // Its place in the stream: from here on it misses nothing.
        if (frame.startsWith('id: ')) resolve()
        if (frame.includes('event: stuck\n')) listener.stuck += 1
      }
    })
  })
  const lost = () => {
    listener.isLost = true
  }
  request.on('error', lost)
  response.once('close', lost).on('error', lost)
  await live
  return listener
}

function read(path, dueAt, { agent, seen, open }) {
  const failed = () => {
    if (open.delete(request)) seen.failed += 1
  }
  const request = get({ ...where, path, agent }, (response) => {
    response.resume().on('error', failed)
    response.once('end', () => {
      if (response.statusCode !== 200) return failed()
      open.delete(request)
      seen.took.get(path).push(performance.now() - dueAt)
    })
  })
  request.on('error', failed)
  open.add(request)
}

function startReading(readsPerSecond) {
  const seen = { failed: 0, unasked: 0, took: new Map(paths.map((path) => [path, []])) }
  const reading = {
    agent: new Agent({ keepAlive: true, maxSockets: SOCKETS }),
    seen,
    open: new Set(),
    began: performance.now(),
  }
  let asked = 0
  reading.timer = setInterval(() => {
    const due = ((performance.now() - reading.began) * readsPerSecond) / 1000
    for (; asked < due; asked += 1) {
      if (reading.open.size >= MAX_OPEN) seen.unasked += 1
      else read(paths[asked % paths.length], reading.began + (asked * 1000) / readsPerSecond, reading)
    }
  }, TICK_MS)
  return reading
}

async function begin({ listeners, readsPerSecond }) {
  load = { listeners: await Promise.all(Array.from({ length: listeners }, listen)) }
  load.cpu = process.cpuUsage()
  load.reading = startReading(readsPerSecond)
  return 'listening'
}

function end() {
  const { seen, open, agent, began, timer } = load.reading
  clearInterval(timer)
  const seconds = (performance.now() - began) / 1000
  const { user, system } = process.cpuUsage(load.cpu)
  const measures = {
    seconds,
    took: Object.fromEntries(seen.took),
    ...{ failed: seen.failed, unasked: seen.unasked, unanswered: open.size },
    lost: load.listeners.filter(({ isLost }) => isLost).length,
    leastStuck: Math.min(...load.listeners.map(({ stuck }) => stuck)),
    cpuPercent: (user + system) / seconds / 1e4,
  }
  // What was asked and not answered must not trouble the time that follows.
  for (const request of open) request.destroy()
  agent.destroy()
  for (const { request } of load.listeners) request.destroy()
  return measures
}

process.on('message', async (order) => process.send(order === 'end' ? end() : await begin(order)))
process.on('disconnect', () => process.exit())
process.send('ready')
