/**
 * Who is let in. With a token: whoever bears it. Without one the server listens on loopback only, where a web page that
 * somebody visits could still reach it under a name of its own (DNS rebinding): so the Host must be a loopback one.
 */
import { createHash, timingSafeEqual } from 'node:crypto'

export interface AuthRequest {
  readonly path: string
  readonly host: string | undefined
  readonly authorization: string | undefined
}

export interface Refusal {
  readonly status: 401 | 403
  readonly code: string
  readonly message: string
}

/** Probes of orchestrators bear no token. */
const open: ReadonlySet<string> = new Set(['/livez', '/readyz'])

/** @returns undefined when the request may pass */
export function refusalOf({ path, host, authorization }: AuthRequest, token: string | undefined): Refusal | undefined {
  if (open.has(path)) return undefined
  if (token !== undefined) {
    if (authorization?.startsWith('Bearer ') && sameSecret(authorization.slice('Bearer '.length), token)) return undefined
    return { status: 401, code: 'UNAUTHORIZED', message: 'a token is needed: send "Authorization: Bearer <http.token>"' }
  }
  if (isLoopback(host)) return undefined
  return {
    status: 403,
    code: 'FOREIGN_HOST',
    message: 'without http.token only a loopback address may be used in the Host header',
  }
}

/** Digests are compared, so that neither content nor length shows in the time it takes. */
function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(expected))
}

function isLoopback(host: string | undefined): boolean {
  const name = host?.replace(/:\d+$/, '').toLowerCase()
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name ?? '')
}
