/**
 * What the page knows, and how it stays fresh: the watchdog's event stream says that something changed, and the page
 * reads again. When the stream is lost it says so, asks again by itself, and reads everything anew on return.
 */
import { get } from './api.js'
import { useEffect, useState } from './vendor.js'

/** The server sends something every 2 s while it reaches Redis. */
const SILENCE_MS = 8000
const RECONNECT_MS = 2000
/** Ages run on between changes, so everything is read again after so long. */
const REFRESH_MS = 6000
const HISTORY_MS = 15_000
const CHECK_MS = 1000

/** @type {{connection: 'connecting' | 'live' | 'lost', health?: object, supervisors: object[], queues: object[],
 *   incidents: object[], history?: object, readAt?: number, loaded: boolean, beat: number}} */
let state = { connection: 'connecting', supervisors: [], queues: [], incidents: [], loaded: false, beat: 0 }
const listeners = new Set()

function set(changes) {
  state = { ...state, ...changes }
  for (const listener of listeners) listener(state)
}

/** Re-renders when what `select` picks is another value. */
export function useLive(select) {
  const [picked, setPicked] = useState(() => select(state))
  useEffect(() => {
    const listener = (next) => setPicked(() => select(next))
    listeners.add(listener)
    listener(state)
    return () => listeners.delete(listener)
  }, [])
  return picked
}

let source
let heardAt = 0
let readStartedAt = 0
let historyAt = Number.NEGATIVE_INFINITY
let stamp
let reading
let isDirty = false
/** Without Redis the stream has nothing to say, and its silence proves nothing. */
let isStoreThere = true

export function startLive() {
  connect()
  refresh()
  setInterval(check, CHECK_MS)
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') refresh()
  })
}

function connect() {
  source?.close()
  heardAt = performance.now()
  source = new EventSource('/api/v1/events')
  source.addEventListener('open', heard)
  source.addEventListener('error', () => lost())
  source.addEventListener('fleet', (event) => {
    heard()
    set({ beat: state.beat + 1 })
    if (event.data === stamp && performance.now() - readStartedAt < REFRESH_MS) return
    stamp = event.data
    refresh()
  })
  source.addEventListener('store', (event) => {
    heard()
    isStoreThere = isReachable(event.data)
    refresh()
  })
  for (const name of ['stuck', 'resumed', 'flapping', 'reset']) {
    source.addEventListener(name, () => {
      heard()
      refresh()
    })
  }
}

function isReachable(data) {
  try {
    return JSON.parse(data).reachable !== false
  } catch {
    return true
  }
}

function heard() {
  heardAt = performance.now()
  if (state.connection === 'live') return
  const wasLost = state.connection === 'lost'
  set({ connection: 'live' })
  if (wasLost) refresh()
}

function lost() {
  if (state.connection !== 'lost') set({ connection: 'lost' })
}

/** A stream that was refused does not come back by itself, and one that is silent may be dead without an error. */
function check() {
  const now = performance.now()
  const isSilent = isStoreThere && now - heardAt > SILENCE_MS
  if (isSilent) lost()
  if (state.connection === 'lost' && (isSilent || source?.readyState === EventSource.CLOSED) && now - heardAt > RECONNECT_MS) {
    connect()
  }
  if (now - readStartedAt > REFRESH_MS && document.visibilityState === 'visible') refresh()
}

/** Reads everything again; a call while it reads makes it read once more. */
export function refresh() {
  if (reading) {
    isDirty = true
    return reading
  }
  readStartedAt = performance.now()
  reading = readAll().finally(() => {
    reading = undefined
    if (!isDirty) return
    isDirty = false
    refresh()
  })
  return reading
}

async function readAll() {
  const wantsHistory = performance.now() - historyAt > HISTORY_MS
  const orNothing = (promise) => promise.catch(() => undefined)
  const [health, supervisors, queues, incidents, history] = await Promise.all(
    ['/health', '/supervisors', '/queues', '/incidents?limit=200', ...(wantsHistory ? ['/history?minutes=15'] : [])].map(
      (path) => orNothing(get(path)),
    ),
  )
  if (history) historyAt = performance.now()
  // What cannot be read now stays on the page as it was; the banner says that nothing is known.
  set({
    health,
    loaded: true,
    ...(supervisors ? { supervisors: supervisors.supervisors, readAt: Date.now() } : {}),
    ...(queues ? { queues: queues.queues } : {}),
    ...(incidents ? { incidents: incidents.incidents } : {}),
    ...(history ? { history: indexed(history) } : {}),
  })
}

/** By name, since every row asks for its own. */
function indexed(history) {
  const loops = new Map(
    (history.loops ?? []).map((loop) => [`${loop.supervisor}/${loop.loop}/${loop.queue ?? ''}`, loop.lagMs]),
  )
  const queues = new Map((history.queues ?? []).map((queue) => [queue.queue, queue]))
  return { stepMs: history.stepMs, times: history.times ?? [], loops, queues }
}

/** The present moment, which moves while a component shows it. */
export function useNow(everyMs = 1000) {
  const [now, setNow] = useState(Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs)
    return () => clearInterval(timer)
  }, [everyMs])
  return now
}
