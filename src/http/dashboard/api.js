/** Requests to the watchdog that served this page. */

/** Longer than the API takes at most; what does not answer by then counts as no answer. */
const LIMIT_MS = 5000
/** A dump of a thread that is hard to see takes its time. */
const SLOW_LIMIT_MS = 30_000

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message)
    this.status = status
    this.code = code
  }
}

/** The server's clock minus ours, milliseconds, from the Date of its answers: ages must not depend on this machine's clock. */
let skewMs = 0

export const serverNow = () => Date.now() + skewMs

const part = encodeURIComponent
/**
 * A browser takes `.` and `..` out of an address, encoded or not: such an id goes into the query.
 * @param order what is asked of it, `/reset`
 */
export function jobPath(queue, id, order = '') {
  const isDots = id === '.' || id === '..'
  return `/queues/${part(queue)}/jobs/${isDots ? '-' : part(id)}${order}${isDots ? `?id=${id}` : ''}`
}
export const findPath = (id, queue) => `/jobs?id=${part(id)}${queue === undefined ? '' : `&queue=${part(queue)}`}`
export const queuePath = (queue) => `/queues/${part(queue)}`
export const supervisorPath = (name) => `/supervisors/${part(name)}`

/** @throws {ApiError} with the server's own words */
export function get(path) {
  return request(path, { method: 'GET' }, LIMIT_MS)
}

/** @throws {ApiError} with the server's own words */
export function post(path, body = {}) {
  const headers = { 'content-type': 'application/json' }
  return request(path, { method: 'POST', headers, body: JSON.stringify(body) }, SLOW_LIMIT_MS)
}

async function request(path, options, limitMs) {
  let response
  try {
    response = await fetch(`/api/v1${path}`, { ...options, signal: AbortSignal.timeout(limitMs) })
  } catch (error) {
    const isSlow = error instanceof Error && error.name === 'TimeoutError'
    throw new ApiError(0, 'NO_ANSWER', isSlow ? 'the watchdog did not answer in time' : 'the watchdog cannot be reached')
  }
  noteClock(response.headers.get('date'))
  const body = await response.json().catch(() => undefined)
  if (response.ok) return body
  // Signed out meanwhile. A refusal of what a read-only visitor may not do is 403, and shown where it was asked.
  if (response.status === 401 && options.method === 'GET') location.assign('/login')
  throw new ApiError(response.status, body?.error?.code ?? 'HTTP', body?.error?.message ?? `answer ${response.status}`)
}

function noteClock(date) {
  const at = Date.parse(date ?? '')
  if (Number.isNaN(at)) return
  // The header counts whole seconds: a difference below two says nothing.
  const difference = at + 500 - Date.now()
  skewMs = Math.abs(difference) < 2000 ? 0 : difference
}
