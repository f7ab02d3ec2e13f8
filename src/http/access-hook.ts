/** Puts what `access.ts` decides before every route: headers, verdict, limits, login. Handlers see `request.access`. */
import cookie from '@fastify/cookie'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { systemClock } from '../platform/system-clock.js'
import { type Access, type AccessRules, judge, type Knock, type Refusal, type Verdict } from './access.js'
import { errorBody } from './http-errors.js'
import { addLogin, sessionId } from './login.js'
import { LoginSessions } from './login-sessions.js'
import { type RateLimits, rateLimits } from './rate-limits.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks, and what they may. */
    access: Access
  }
}

/** On every answer; a route may set its own over them. */
export const SECURITY_HEADERS = {
  'content-security-policy':
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  // Not no-referrer: forms would be sent with the Origin "null", and refused.
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
} as const

/** Longer addresses are forgotten on the way through the login page. */
const MAX_NEXT = 2000

/** To be awaited before any route is added. */
export async function addAccess(server: FastifyInstance, rules: AccessRules, clock = systemClock): Promise<void> {
  const sessions = new LoginSessions(clock)
  server.decorateRequest('access')
  server.addHook('onRequest', async (_request, reply) => {
    reply.headers(SECURITY_HEADERS)
  })
  await server.register(cookie)
  const limits = await rateLimits(server)
  server.addHook('onRequest', async (request, reply) => {
    const verdict = judge(knockOf(request, sessions), rules)
    if (verdict.access) request.access = verdict.access
    const limit = (await tokenLimit(request, verdict, limits)) ?? (await orderLimit(request, verdict, limits))
    if (limit) return slowDown(reply, limit)
    if (verdict.refusal) return refuse(request, reply, verdict.refusal)
  })
  addLogin(server, { rules, sessions, limits })
}

function knockOf(request: FastifyRequest, sessions: LoginSessions): Knock {
  const { method, url, routeOptions, headers } = request
  return {
    ...{ method, url, route: routeOptions.url, address: request.ip.replace(/^::ffff:(?=\d+\.)/, '') },
    ...{ host: headers.host, origin: headers.origin, authorization: headers.authorization },
    fetchSite: headers['sec-fetch-site'],
    fetchMode: headers['sec-fetch-mode'],
    fetchDest: headers['sec-fetch-dest'],
    session: sessions.find(sessionId(request)),
  }
}

interface Limit {
  readonly of: string
  readonly waitSeconds: number
}

async function tokenLimit(
  request: FastifyRequest,
  { access, refusal }: Verdict,
  limits: RateLimits,
): Promise<Limit | undefined> {
  if (request.headers.authorization === undefined) return undefined
  const isRight = access?.kind === 'bearer' || refusal?.code === 'READ_ONLY'
  const isWrong = refusal?.code === 'UNAUTHORIZED'
  if (!isRight && !isWrong) return undefined
  const waitSeconds = await limits.tokenShown(request, isRight)
  return waitSeconds === undefined ? undefined : { of: 'wrong tokens from this address', waitSeconds }
}

async function orderLimit(request: FastifyRequest, { access }: Verdict, limits: RateLimits): Promise<Limit | undefined> {
  if (!access || access.kind === 'open' || request.method === 'GET' || request.method === 'HEAD') return undefined
  const waitSeconds = await limits.order(request)
  return waitSeconds === undefined ? undefined : { of: 'orders', waitSeconds }
}

function slowDown(reply: FastifyReply, { of, waitSeconds }: Limit): FastifyReply {
  const message = `too many ${of}; try again in ${waitSeconds} s`
  return reply.code(429).header('retry-after', waitSeconds).send(errorBody('RATE_LIMITED', message))
}

/** A person in a browser is shown the login page, and led back after it. */
function refuse(request: FastifyRequest, reply: FastifyReply, refusal: Refusal): FastifyReply {
  const { method, url, headers } = request
  if (refusal.status !== 401) return reply.code(refusal.status).send(errorBody(refusal.code, refusal.message))
  const wantsPage = method === 'GET' && headers.accept?.includes('text/html') === true && !url.startsWith('/api/')
  if (wantsPage && headers.authorization === undefined) {
    return reply.redirect(url === '/' || url.length > MAX_NEXT ? '/login' : `/login?next=${encodeURIComponent(url)}`, 303)
  }
  return reply.code(401).header('www-authenticate', 'Bearer realm="unstuck"').send(errorBody(refusal.code, refusal.message))
}
