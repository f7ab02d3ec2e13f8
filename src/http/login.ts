/** Logging in with a token on a page of our own, and out again. The token becomes a session whose id only the cookie holds. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type AccessRules, localAddress, rightsOf } from './access.js'
import { LOGIN_SCRIPT, LOGIN_STYLE, loginPage } from './login-page.js'
import { type LoginSessions, SESSION_MS } from './login-sessions.js'
import type { RateLimits } from './rate-limits.js'

const FORM_LIMIT_BYTES = 8192

export interface LoginDeps {
  readonly rules: AccessRules
  readonly sessions: LoginSessions
  readonly limits: RateLimits
}

type Asked = FastifyRequest<{ Querystring: { readonly next?: unknown; readonly again?: unknown } }>

export function addLogin(root: FastifyInstance, deps: LoginDeps): void {
  root.register(async (server) => {
    // Forms are understood here only: elsewhere they would be orders that any page can send.
    server.removeAllContentTypeParsers()
    const parser = { parseAs: 'string', bodyLimit: FORM_LIMIT_BYTES } as const
    server.addContentTypeParser('application/x-www-form-urlencoded', parser, (_request, body, done) =>
      done(null, new URLSearchParams(String(body))),
    )
    server.get('/login.css', (_request, reply) =>
      reply.type('text/css; charset=utf-8').header('cache-control', 'max-age=3600').send(LOGIN_STYLE),
    )
    server.get('/login.js', (_request, reply) => reply.type('text/javascript; charset=utf-8').send(LOGIN_SCRIPT))
    server.get('/login', (request: Asked, reply) => showLogin(request, reply, deps))
    server.post('/login', (request, reply) => logIn(request, reply, deps))
    server.post('/logout', (request, reply) => {
      deps.sessions.close(sessionId(request))
      return reply.clearCookie(cookieName(request), cookieOptions(request)).redirect('/login', 303)
    })
  })
}

export function sessionId(request: FastifyRequest): string | undefined {
  return request.cookies[cookieName(request)]
}

/** Cookies know no ports: two watchdogs of one host must not log each other out. */
function cookieName(request: FastifyRequest): string {
  return `unstuck_session_${request.socket.localPort ?? 0}`
}

function cookieOptions(request: FastifyRequest) {
  return {
    path: '/',
    httpOnly: true,
    sameSite: 'strict',
    // Whoever claims it falsely harms only himself.
    secure: /^https\b/.test(String(request.headers['x-forwarded-proto'])),
  } as const
}

function showLogin(request: Asked, reply: FastifyReply, { rules, sessions }: LoginDeps): FastifyReply {
  const next = localAddress(request.query.next)
  if (rules.token === undefined || sessions.find(sessionId(request))) return reply.redirect(next, 303)
  return reply.type('text/html; charset=utf-8').send(loginPage({ next, ...onceMore(request, next) }))
}

/**
 * Who follows a link from another site comes without the cookie, as it is SameSite=Strict. Asked by our own page once more
 * the browser sends it, and whoever is logged in gets to where the link leads.
 */
function onceMore(request: Asked, next: string): { again?: string } {
  const site = request.headers['sec-fetch-site']
  if (request.query.again !== undefined || (site !== 'cross-site' && site !== 'same-site')) return {}
  return { again: `/login?again=1&next=${encodeURIComponent(next)}` }
}

async function logIn(request: FastifyRequest, reply: FastifyReply, deps: LoginDeps): Promise<FastifyReply> {
  const form = request.body instanceof URLSearchParams ? request.body : new URLSearchParams()
  const next = localAddress(form.get('next'))
  if (deps.rules.token === undefined) return reply.redirect(next, 303)
  const rights = rightsOf(form.get('token') ?? '', deps.rules)
  const waitSeconds = await deps.limits.tokenShown(request, rights !== undefined)
  reply.type('text/html; charset=utf-8')
  if (waitSeconds !== undefined) {
    const problem = `Too many wrong tokens from this address. Try again in ${waitSeconds} s.`
    return reply.code(429).header('retry-after', waitSeconds).send(loginPage({ next, problem }))
  }
  if (!rights) return reply.code(401).send(loginPage({ next, problem: 'This token is not the right one.' }))
  deps.sessions.close(sessionId(request))
  const cookie = { ...cookieOptions(request), maxAge: SESSION_MS / 1000 }
  return reply.setCookie(cookieName(request), deps.sessions.open(rights), cookie).redirect(next, 303)
}
