/**
 * Who may look and who may act. Pure: a request's headers go in, a verdict with its reason comes out.
 *
 * - With a token: whoever bears it. Programs send it as a bearer; people show it once on the login page and get a cookie.
 *   The read token looks and changes nothing.
 * - Without one the server listens on loopback only. A web page that somebody visits could still reach it, under a name of
 *   its own (DNS rebinding) or across origins: so the Host must be a loopback one and the page must be ours.
 * - A browser sends a cookie along for others too (cookies know no ports): what changes something needs our own Origin.
 */
import { createHash, timingSafeEqual } from 'node:crypto'

export type Rights = 'all' | 'read'

/** What a handler knows of who asks. */
export interface Access {
  /** `open`: probes and the login page, which anybody may ask. */
  readonly kind: 'open' | 'loopback' | 'bearer' | 'cookie'
  readonly rights: Rights | 'none'
  /** For the audit: `http:127.0.0.1`, `http:token 10.0.0.7`, `http:login 10.0.0.7`. */
  readonly actor: string
}

export interface AccessRules {
  readonly token: string | undefined
  readonly readToken: string | undefined
  /** /metrics without a token. */
  readonly openMetrics: boolean
}

/** What is known of a request before anything of it is believed. */
export interface Knock {
  readonly method: string
  /** Of the route that will answer, not the address as it was written; undefined where none will. */
  readonly route: string | undefined
  /** As it was written. */
  readonly url: string
  readonly address: string
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly authorization: string | undefined
  /** `sec-fetch-…`: what a browser says of where a request comes from. No page can forge it. */
  readonly fetchSite: string | undefined
  readonly fetchMode: string | undefined
  readonly fetchDest: string | undefined
  /** What the cookie's session may; undefined without a living one. */
  readonly session: Rights | undefined
}

export interface Refusal {
  readonly status: 400 | 401 | 403
  readonly code: 'FOREIGN_HOST' | 'FOREIGN_ORIGIN' | 'READ_ONLY' | 'TOKEN_IN_ADDRESS' | 'UNAUTHORIZED'
  readonly message: string
}

export type Verdict =
  | { readonly access: Access; readonly refusal?: undefined }
  | { readonly refusal: Refusal; readonly access?: undefined }

const NOBODY: Access = { kind: 'open', rights: 'none', actor: 'http:anybody' }

/** Orchestrators' probes bear no token, and name a Host as it suits them. */
const PROBES: ReadonlySet<string | undefined> = new Set(['/livez', '/readyz'])
const LOGIN: ReadonlySet<string | undefined> = new Set(['/login', '/login.css', '/login.js', '/logout'])

export function judge(knock: Knock, rules: AccessRules): Verdict {
  const { route } = knock
  if (reads(knock) && (PROBES.has(route) || (rules.openMetrics && route === '/metrics'))) return { access: NOBODY }
  if (namesToken(knock.url)) return { refusal: refusals.tokenInAddress }
  if (rules.token === undefined) return judgeLoopback(knock)
  if (knock.authorization !== undefined) return judgeBearer(knock, knock.authorization, rules)
  if (LOGIN.has(route)) return isForeign(knock) ? { refusal: refusals.foreignOrigin } : { access: NOBODY }
  return knock.session ? judgeCookie(knock, knock.session) : { refusal: refusals.unauthorized }
}

function judgeLoopback(knock: Knock): Verdict {
  if (!isLoopback(knock.host)) return { refusal: refusals.foreignHost }
  if (isForeign(knock)) return { refusal: refusals.foreignOrigin }
  return { access: { kind: 'loopback', rights: 'all', actor: `http:${knock.address}` } }
}

function judgeBearer(knock: Knock, authorization: string, rules: AccessRules): Verdict {
  const given = /^Bearer +(.+)$/i.exec(authorization)?.[1]
  const rights = given === undefined ? undefined : rightsOf(given, rules)
  if (!rights) return { refusal: refusals.unauthorized }
  if (rights === 'read' && !reads(knock)) return { refusal: refusals.readOnly }
  const which = rights === 'read' ? 'read token' : 'token'
  return { access: { kind: 'bearer', rights, actor: `http:${which} ${knock.address}` } }
}

function judgeCookie(knock: Knock, rights: Rights): Verdict {
  if (isForeign(knock)) return { refusal: refusals.foreignOrigin }
  if (reads(knock)) return { access: { kind: 'cookie', rights, actor: `http:login ${knock.address}` } }
  if (knock.origin === undefined) return { refusal: refusals.foreignOrigin }
  if (rights === 'read') return { refusal: refusals.readOnly }
  return { access: { kind: 'cookie', rights, actor: `http:login ${knock.address}` } }
}

/** @returns undefined for a wrong one. Both are compared, whatever the first says. */
export function rightsOf(given: string, { token, readToken }: AccessRules): Rights | undefined {
  const isFull = token !== undefined && sameSecret(given, token)
  const isRead = readToken !== undefined && sameSecret(given, readToken)
  if (isFull) return 'all'
  return isRead ? 'read' : undefined
}

/** Digests are compared, so that neither content nor length shows in the time it takes. */
function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(expected))
}

function reads({ method }: Knock): boolean {
  return method === 'GET' || method === 'HEAD'
}

/** Whether a page that is not ours had this request sent. Programs send none of these headers, and are not. */
function isForeign(knock: Knock): boolean {
  const { origin, host, fetchSite } = knock
  if (origin !== undefined && !isSameOrigin(origin, host)) return true
  // Another port of this host is the same site, and still another's.
  return fetchSite !== undefined && fetchSite !== 'same-origin' && fetchSite !== 'none' && !isFollowedLink(knock)
}

/** A link to our page in a chat or a mail: the browser shows the answer to the person, and to no page. */
function isFollowedLink(knock: Knock): boolean {
  const { route, fetchMode, fetchDest } = knock
  return reads(knock) && fetchMode === 'navigate' && fetchDest === 'document' && route?.startsWith('/api/') !== true
}

/** The scheme is not compared: a proxy that speaks TLS for us leaves no trace that could be trusted. */
function isSameOrigin(origin: string, host: string | undefined): boolean {
  const { protocol = '', hostname = '' } = /^(?<protocol>https?):\/\/(?<hostname>[^/?#@\\\s]+)$/i.exec(origin)?.groups ?? {}
  if (host === undefined || hostname === '') return false
  const standardPort = protocol.toLowerCase() === 'https' ? /:443$/ : /:80$/
  const plain = (name: string) => name.toLowerCase().replace(standardPort, '')
  return plain(hostname) === plain(host)
}

/** Any port: a tunnel or a container may have given it another. */
function isLoopback(host: string | undefined): boolean {
  const name = host?.replace(/:\d{1,5}$/, '').toLowerCase()
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name ?? '')
}

function namesToken(url: string): boolean {
  const start = url.indexOf('?')
  if (start < 0) return false
  return [...new URLSearchParams(url.slice(start)).keys()].some((name) =>
    /^((access|auth|bearer|read)[_-]?)?token$/i.test(name),
  )
}

/** Where a login leads: an address of ours, whatever was asked for. */
export function localAddress(asked: unknown): string {
  if (typeof asked !== 'string' || !/^\/(?!\/)[\x21-\x5b\x5d-\x7e]*$/.test(asked)) return '/'
  return LOGIN.has(asked.split('?', 1)[0]) ? '/' : asked
}

const refusals = {
  unauthorized: {
    status: 401,
    code: 'UNAUTHORIZED',
    message: 'a token is needed: send "Authorization: Bearer <http.token>", or log in at /login',
  },
  foreignHost: {
    status: 403,
    code: 'FOREIGN_HOST',
    message: 'without http.token only a loopback address may be used in the Host header',
  },
  foreignOrigin: {
    status: 403,
    code: 'FOREIGN_ORIGIN',
    message: 'a page of another origin may not ask this; open the page of this server itself (a proxy must pass Host on)',
  },
  readOnly: { status: 403, code: 'READ_ONLY', message: 'the read token only looks; use http.token to change something' },
  tokenInAddress: {
    status: 400,
    code: 'TOKEN_IN_ADDRESS',
    message: 'a token in an address ends up in logs and histories; send it as "Authorization: Bearer …", and change this one',
  },
} as const satisfies Record<string, Refusal>
