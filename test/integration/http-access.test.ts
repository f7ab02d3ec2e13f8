/** Who is let in, over real HTTP and bare sockets. The routes are stand-ins: access is decided before all of them. */
import { once } from 'node:events'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { afterEach, describe, expect, it } from 'vitest'
import { type HttpServerOptions, SERVER_LIMITS, type ServerLimits, serve } from '../../src/http/server.js'
import { startWatchdog } from '../../src/processes/watchdog.js'
import { startTestRedis } from '../support/redis.js'
import { testConfig } from '../support/watchdog-config.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const TOKENS = { token: 'full-token', readToken: 'read-token' }
const FULL = { authorization: 'Bearer full-token' }
const READ = { authorization: 'Bearer read-token' }

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

async function setup(options: Partial<HttpServerOptions> = {}, limits?: ServerLimits) {
  const served: string[] = []
  const routes = (server: FastifyInstance) => {
    for (const url of ['/', '/livez', '/readyz', '/metrics', '/api/v1/health', '/queues', '/api/v1/queues/:queue/jobs/:id'])
      server.get(url, async (asked) => {
        served.push(`GET ${url}`)
        return { access: asked.access, params: asked.params }
      })
    server.post('/api/v1/queues/:queue/pause', async (asked) => {
      served.push('POST')
      return { access: asked.access, body: asked.body ?? null }
    })
  }
  const rules = { token: undefined, readToken: undefined, openMetrics: false }
  const http = await serve({ host: '127.0.0.1', port: 0, ...rules, ...options }, [routes], limits)
  cleanups.push(() => http.stop())
  const { port } = new URL(http.address)
  const origin = http.address
  return {
    ...{ served, origin, port: Number(port) },
    get: (path: string, headers: Record<string, string> = {}) => send(Number(port), 'GET', path, headers),
    pause: (headers: Record<string, string> = {}) => send(Number(port), 'POST', '/api/v1/queues/img/pause', headers),
    logIn: (token: string, headers: Record<string, string> = {}, next = '/') => {
      const form = { 'content-type': 'application/x-www-form-urlencoded', ...headers }
      return send(Number(port), 'POST', '/login', form, new URLSearchParams({ token, next }).toString())
    },
  }
}

/** Node's own client, as `fetch` forbids Host and Origin. */
function send(port: number, method: string, path: string, headers: Record<string, string>, body = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, method, path, headers, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
    })
    asked.on('error', reject).end(body)
  })
}

const codeOf = ({ text }: Answer): unknown => (JSON.parse(text) as { error?: { code?: unknown } }).error?.code
const accessOf = ({ text }: Answer): unknown => (JSON.parse(text) as { access?: unknown }).access
const cookieOf = ({ headers }: Answer): string => String(headers['set-cookie']).split(';')[0] ?? ''

/** What the server says to these bytes until it closes. */
async function raw(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  cleanups.push(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.write(bytes, 'latin1')
  return said(socket)
}

async function said(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('latin1')
  socket.on('data', (part: string) => {
    text += part
  })
  await once(socket, 'close')
  return text
}

const HEAD = (line: string, ...headers: string[]) => `${[line, 'connection: close', ...headers].join('\r\n')}\r\n\r\n`

describe('without a token', () => {
  it('lets programs and its own page on this machine do everything', async () => {
    const { get, pause, origin, port } = await setup()
    expect(accessOf(await get('/api/v1/health'))).toEqual({ kind: 'loopback', rights: 'all', actor: 'http:127.0.0.1' })
    expect(accessOf(await pause())).toEqual({ kind: 'loopback', rights: 'all', actor: 'http:127.0.0.1' })
    expect((await pause({ origin, 'sec-fetch-site': 'same-origin' })).status).toBe(200)
    expect((await pause({ host: `localhost:${port}`, origin: `http://localhost:${port}` })).status).toBe(200)
    const login = await get('/login?next=/queues')
    expect([login.status, login.headers['location']]).toEqual([303, '/queues'])
  })

  it('E4: refuses a foreign Host, as a page has after DNS rebinding, also on unknown addresses and the login page', async () => {
    const { get, pause, port, served } = await setup()
    const host = `rebound.example:${port}`
    const own = { host, origin: `http://${host}`, 'sec-fetch-site': 'same-origin' }
    const answers = [await get('/', own), await get('/api/v1/health', own), await pause(own)]
    answers.push(await get('/nothing', own), await get('/login', own), await get('/metrics', own))
    for (const answer of answers) expect([answer.status, codeOf(answer)]).toEqual([403, 'FOREIGN_HOST'])
    expect(served).toEqual([])
  })

  it('E4: refuses a foreign Origin on POST and GET, a preflight too, and never allows one', async () => {
    const { get, pause, port, served } = await setup()
    for (const origin of ['http://evil.example', 'null', `http://localhost:${port}`, 'http://127.0.0.1:1']) {
      const preflight = { origin, 'access-control-request-method': 'POST' }
      const answers = [await get('/api/v1/health', { origin }), await pause({ origin }), await get('/', { origin })]
      answers.push(await send(port, 'OPTIONS', '/api/v1/queues/img/pause', preflight))
      for (const answer of answers) {
        expect([answer.status, codeOf(answer)]).toEqual([403, 'FOREIGN_ORIGIN'])
        expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
      }
    }
    for (const site of ['cross-site', 'same-site']) {
      expect((await get('/api/v1/health', { 'sec-fetch-site': site })).status).toBe(403)
      expect((await pause({ 'sec-fetch-site': site })).status).toBe(403)
    }
    expect(served).toEqual([])
  })

  it('E4: takes no form and no text as an order, which any page could send', async () => {
    const { port, served } = await setup()
    for (const type of ['application/x-www-form-urlencoded', 'text/plain', 'multipart/form-data; boundary=x', '']) {
      const headers = type === '' ? {} : { 'content-type': type }
      const answer = await send(port, 'POST', '/api/v1/queues/img/pause', headers, '{"dryRun":true}')
      expect(answer.status).toBe(415)
    }
    expect(served).toEqual([])
  })
})

describe('with tokens', () => {
  it('a bearer does what its token may', async () => {
    const { get, pause, port } = await setup(TOKENS)
    expect(accessOf(await pause(FULL))).toEqual({ kind: 'bearer', rights: 'all', actor: 'http:token 127.0.0.1' })
    expect(accessOf(await get('/api/v1/health', READ))).toMatchObject({ kind: 'bearer', rights: 'read' })
    expect((await send(port, 'HEAD', '/api/v1/health', READ)).status).toBe(200)
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const refused = await send(port, method, '/api/v1/queues/img/pause', READ)
      expect([refused.status, codeOf(refused)]).toEqual([403, 'READ_ONLY'])
    }
  })

  it('E4: refuses wrong tokens, wherever they are shown', async () => {
    const { get, pause, served } = await setup(TOKENS)
    const wrong = ['Bearer wrong', 'full-token', 'Basic ZnVsbC10b2tlbg==', 'Bearer full-token ,x', `Bearer ${'x'.repeat(9000)}`]
    for (const authorization of wrong) {
      const refused = await get('/api/v1/health', { authorization })
      expect([refused.status, codeOf(refused)]).toEqual([401, 'UNAUTHORIZED'])
      expect(refused.headers['www-authenticate']).toBe('Bearer realm="unstuck"')
    }
    expect((await pause({})).status).toBe(401)
    expect((await get('/nothing')).status).toBe(401)
    for (const query of ['token=full-token', 'access_token=full-token']) {
      const refused = await get(`/api/v1/health?${query}`)
      expect([refused.status, codeOf(refused)]).toEqual([400, 'TOKEN_IN_ADDRESS'])
      expect(refused.text).not.toContain('full-token')
    }
    expect((await get('/api/v1/health', { cookie: 'unstuck_session=full-token' })).status).toBe(401)
    expect(served).toEqual([])
  })

  it('leaves the probes open, and metrics only when that is said', async () => {
    const host = '10.1.2.3:7373'
    for (const tokens of [TOKENS, {}]) {
      const { get } = await setup(tokens)
      for (const probe of ['/livez', '/readyz']) expect((await get(probe, { host })).status).toBe(200)
      expect((await get('/metrics', { host })).status).toBeGreaterThanOrEqual(401)
      const open = await setup({ ...tokens, openMetrics: true })
      expect(accessOf(await open.get('/metrics', { host }))).toMatchObject({ kind: 'open', rights: 'none' })
      expect((await open.get('/api/v1/health', { host })).status).toBeGreaterThanOrEqual(401)
    }
    const { get } = await setup(TOKENS)
    expect((await get('/metrics', READ)).status).toBe(200)
  })

  it('E4: says 429 with Retry-After after ten wrong tokens of an address, and then to a right one too', async () => {
    const { get, logIn } = await setup(TOKENS)
    for (let n = 0; n < 5; n++) expect((await get('/api/v1/health', { authorization: `Bearer wrong${n}` })).status).toBe(401)
    for (let n = 0; n < 5; n++) expect((await logIn(`wrong${n}`)).status).toBe(401)
    const refused = await get('/api/v1/health', FULL)
    expect([refused.status, codeOf(refused)]).toEqual([429, 'RATE_LIMITED'])
    const page = await logIn('full-token')
    expect(page.status).toBe(429)
    expect(page.headers['set-cookie']).toBeUndefined()
    expect(page.text).toMatch(/role="alert".*Too many wrong tokens/)
    for (const { headers } of [refused, page]) expect(Number(headers['retry-after'])).toBeGreaterThan(0)
    for (const { headers } of [refused, page]) expect(Number(headers['retry-after'])).toBeLessThanOrEqual(60)
    expect((await get('/livez')).status).toBe(200)
  })

  it('a stranger behind the same proxy does not lock out who was let in before', async () => {
    const { get, logIn } = await setup(TOKENS)
    const cookie = cookieOf(await logIn('full-token'))
    for (let n = 0; n < 12; n++) await get('/api/v1/health', { authorization: 'Bearer wrong' })
    expect((await get('/api/v1/health', { authorization: 'Bearer wrong' })).status).toBe(429)
    expect((await get('/api/v1/health', FULL)).status).toBe(200)
    expect((await get('/api/v1/health', { cookie })).status).toBe(200)
  })

  it('says 429 after 60 orders of one actor in a minute, and to nobody else', async () => {
    const { pause, get } = await setup({ token: 'full-token' })
    const statuses = await Promise.all(Array.from({ length: 61 }, async () => (await pause(FULL)).status))
    expect(statuses.filter((status) => status === 200)).toHaveLength(60)
    const refused = await pause(FULL)
    expect([refused.status, codeOf(refused)]).toEqual([429, 'RATE_LIMITED'])
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
    expect((await get('/api/v1/health', FULL)).status).toBe(200)
  })
})

describe('logging in', () => {
  it('leads from the page that was asked for, over the login page, back to it', async () => {
    const { get, logIn, origin } = await setup(TOKENS)
    const sent = await get('/queues?job=a%2Fb&x=1', { accept: 'text/html,*/*' })
    expect([sent.status, sent.headers['location']]).toEqual([303, '/login?next=%2Fqueues%3Fjob%3Da%252Fb%26x%3D1'])
    const page = await get(String(sent.headers['location']))
    expect(page.headers['content-type']).toMatch(/^text\/html/)
    expect(page.text).toContain('<input type="hidden" name="next" value="/queues?job=a%2Fb&amp;x=1">')
    expect(page.text).not.toMatch(/<script|<style|style=/)
    expect((await get('/login.css')).headers['content-type']).toMatch(/^text\/css/)
    const done = await logIn('full-token', { origin, 'sec-fetch-site': 'same-origin' }, '/queues?job=a%2Fb&x=1')
    expect([done.status, done.headers['location']]).toEqual([303, '/queues?job=a%2Fb&x=1'])
    const attributes = String(done.headers['set-cookie']).split('; ').slice(1)
    expect(attributes.sort()).toEqual(['HttpOnly', 'Max-Age=43200', 'Path=/', 'SameSite=Strict'])
    const cookie = cookieOf(done)
    expect(cookie).not.toContain('full-token')
    expect(accessOf(await get('/queues', { cookie }))).toEqual({ kind: 'cookie', rights: 'all', actor: 'http:login 127.0.0.1' })
    expect((await get('/login', { cookie })).headers['location']).toBe('/')
    expect((await get('/api/v1/health', { accept: 'text/html' })).status).toBe(401)
  })

  it('marks the cookie Secure behind TLS', async () => {
    const { logIn } = await setup(TOKENS)
    expect(String((await logIn('read-token', { 'x-forwarded-proto': 'https' })).headers['set-cookie'])).toContain('; Secure')
  })

  it('E4: a cookie alone changes nothing: it takes our own Origin', async () => {
    const { pause, logIn, origin, port, get } = await setup(TOKENS)
    const cookie = cookieOf(await logIn('full-token'))
    expect((await pause({ cookie, origin })).status).toBe(200)
    const foreign = [{}, { origin: 'http://evil.example' }, { origin: 'null' }, { origin: `http://127.0.0.1:${port + 1}` }]
    for (const headers of [...foreign, { origin, 'sec-fetch-site': 'cross-site' }] as Record<string, string>[]) {
      const refused = await pause({ cookie, ...headers })
      expect([refused.status, codeOf(refused)]).toEqual([403, 'FOREIGN_ORIGIN'])
    }
    expect((await get('/api/v1/health', { cookie, 'sec-fetch-site': 'same-site' })).status).toBe(403)
  })

  it('with the read token looks and changes nothing', async () => {
    const { get, pause, logIn, origin } = await setup(TOKENS)
    const cookie = cookieOf(await logIn('read-token'))
    expect(accessOf(await get('/queues', { cookie }))).toMatchObject({ kind: 'cookie', rights: 'read' })
    expect(codeOf(await pause({ cookie, origin }))).toBe('READ_ONLY')
    const better = cookieOf(await logIn('full-token', { cookie, origin }))
    expect((await pause({ cookie: better, origin })).status).toBe(200)
    expect((await get('/queues', { cookie })).status).toBe(401)
  })

  it('ends with a log-out, for that session only', async () => {
    const { get, logIn, origin, port } = await setup(TOKENS)
    const [cookie, other] = [cookieOf(await logIn('full-token')), cookieOf(await logIn('full-token'))]
    const refused = await send(port, 'POST', '/logout', { cookie, origin: 'http://evil.example' })
    expect(refused.status).toBe(403)
    const out = await send(port, 'POST', '/logout', { cookie, origin })
    expect([out.status, out.headers['location']]).toEqual([303, '/login'])
    expect(String(out.headers['set-cookie'])).toMatch(/=; .*Expires=Thu, 01 Jan 1970/)
    expect((await get('/queues', { cookie })).status).toBe(401)
    expect((await get('/queues', { cookie: other })).status).toBe(200)
  })

  it('E4: is refused to wrong tokens and foreign pages, and leads nowhere else', async () => {
    const { logIn, origin, port } = await setup(TOKENS)
    const wrong = await logIn('"><script>alert(1)</script>', { origin }, '"><script>')
    expect([wrong.status, wrong.headers['set-cookie']]).toEqual([401, undefined])
    expect(wrong.text).not.toContain('<script')
    expect((await logIn('full-token', { origin: 'http://evil.example' })).status).toBe(403)
    expect((await logIn('full-token', { origin }, '//evil.example')).headers['location']).toBe('/')
    const json = await send(port, 'POST', '/login', { 'content-type': 'application/json' }, '{"token":"full-token"}')
    expect(json.status).toBe(415)
    expect((await logIn('x'.repeat(10_000))).status).toBe(413)
    expect((await send(port, 'POST', '/login', {})).status).toBe(401)
  })

  it('asks once more when a link from another site brought the browser without its cookie', async () => {
    const { get } = await setup(TOKENS)
    const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
    const page = await get('/login?next=%2Fqueues', link)
    expect(page.text).toContain('<meta http-equiv="refresh" content="0;url=/login?again=1&amp;next=%2Fqueues">')
    expect((await get('/login?again=1&next=%2Fqueues', link)).text).not.toContain('refresh')
    expect((await get('/login?next=%2Fqueues', { 'sec-fetch-site': 'none' })).text).not.toContain('refresh')
  })
})

describe('every answer', () => {
  it('has the headers that keep other pages away from it', async () => {
    const { get, pause, port } = await setup(TOKENS)
    const answers = [await get('/', FULL), await get('/api/v1/health'), await get('/nothing', FULL), await get('/login')]
    answers.push(await pause(READ), await get('/livez'), await get('/%zz', FULL), await get('/', { accept: 'text/html' }))
    answers.push(await send(port, 'POST', '/api/v1/queues/img/pause', { ...FULL, 'content-type': 'application/json' }, '{'))
    expect(answers.map(({ status }) => status)).toEqual([200, 401, 404, 200, 403, 200, 400, 303, 400])
    for (const { headers } of answers) {
      const policy = String(headers['content-security-policy'])
      expect(policy).toMatch(/^default-src 'self';.*frame-ancestors 'none'/)
      expect(policy).not.toContain('unsafe')
      expect(headers).toMatchObject({
        ...{ 'x-content-type-options': 'nosniff', 'referrer-policy': 'same-origin', 'x-frame-options': 'DENY' },
        ...{ 'cross-origin-opener-policy': 'same-origin', 'cross-origin-resource-policy': 'same-origin' },
        'cache-control': 'no-store',
      })
      expect(headers['server']).toBeUndefined()
    }
  })
})

describe('E4: requests that nobody sends by mistake', () => {
  it.each([
    ...['/..%2f..%2fetc/passwd', '/../../etc/passwd', '//etc/passwd', '//livez/../api/v1/health', '/livez/../api/v1/health'],
    ...['/livez%2f..%2fapi/v1/health', '/%2e%2e/%2e%2e/etc/passwd', '/livez;/api/v1/health', '/livez%00', '/LIVEZ', '/livez/'],
    ...[
      '/api/v1/health#/livez',
      '/\\..\\..\\etc\\passwd',
      'http://evil.example/api/v1/health',
      '/login/../api/v1/health',
      '*',
      '/%',
    ],
    ...['/api/v1/queues/..%2f..%2f/jobs/%2e%2e', '/login.css/..%2f..%2fpackage.json'],
  ])('no path leads past the door, or out of it: %s', async (path) => {
    const { port, served } = await setup(TOKENS)
    const answer = await raw(port, HEAD(`GET ${path} HTTP/1.1`, 'host: 127.0.0.1'))
    expect(answer).toMatch(/^HTTP\/1\.1 (400|401|404|414) /)
    expect(answer).not.toMatch(/root:|devDependencies/)
    expect(served).toEqual([])
  })

  it('a name that is too long leads nowhere', async () => {
    const { port, get } = await setup(TOKENS)
    const path = `/api/v1/queues/img/jobs/${'x'.repeat(5000)}`
    const answer = await raw(port, HEAD(`GET ${path} HTTP/1.1`, 'host: 127.0.0.1'))
    expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /)
    expect((await get(`/api/v1/queues/img/jobs/${'%C3%A9'.repeat(600)}`, FULL)).status).toBe(200)
  })

  it('a strange path of somebody who is in is an unknown address or a strange name, and nothing else', async () => {
    const { get } = await setup(TOKENS)
    for (const path of ['/..%2f..%2fetc/passwd', '//etc/passwd', '/%2e%2e/package.json', '/login.css/..%2fx'])
      expect((await get(path, FULL)).status).toBe(404)
    const job = await get('/api/v1/queues/img/jobs/..%2f%00%3Cb%3E', FULL)
    expect(JSON.parse(job.text)).toMatchObject({ params: { queue: 'img', id: '../\u0000<b>' } })
  })

  it.each([
    ['garbage', '\x16\x03\x01\x02\x00\x01garbage\r\n\r\n', 400],
    ['no version', 'GET /\r\n\r\n', 401],
    ['a header without a colon', HEAD('GET /livez HTTP/1.1', 'host: x', 'nonsense'), 400],
    ['a NUL in a header', HEAD('GET /livez HTTP/1.1', 'host: x', 'x: a\0b'), 400],
    ['a bare line feed in a header', 'GET /livez HTTP/1.1\r\nhost: x\nx: y\r\n\r\n', 400],
    ['an empty header name', HEAD('GET /livez HTTP/1.1', 'host: x', ': y'), 400],
    ['two lengths', HEAD('POST /login HTTP/1.1', 'host: x', 'content-length: 1', 'content-length: 2'), 400],
    ['length and chunks', HEAD('POST /login HTTP/1.1', 'host: x', 'content-length: 1', 'transfer-encoding: chunked'), 400],
    ['a negative length', HEAD('POST /login HTTP/1.1', 'host: x', 'content-length: -1'), 400],
    ['an unknown method', HEAD('STEAL / HTTP/1.1', 'host: x'), 400],
    ['no Host', HEAD('GET /api/v1/health HTTP/1.1'), 400],
    ['headers over 16 KiB', HEAD('GET /livez HTTP/1.1', 'host: x', `x: ${'y'.repeat(20_000)}`), 431],
    ['an address over 16 KiB', HEAD(`GET /${'y'.repeat(20_000)} HTTP/1.1`, 'host: x'), 431],
  ])('what is no HTTP is answered in one line and hung up on: %s', async (_what, bytes, status) => {
    const { port, get } = await setup(TOKENS)
    const answer = await raw(port, bytes)
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    if (!answer.includes('Bad Request\r\nConnection: close\r\n'))
      expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toHaveProperty('error.code')
    expect((await get('/livez')).status).toBe(200)
  })

  it('hundreds of headers and odd cookies are no trouble', async () => {
    const { port, get } = await setup(TOKENS)
    const many = Array.from({ length: 1500 }, (_, n) => `a${n}:b`)
    expect(await raw(port, HEAD('GET /livez HTTP/1.1', 'host: x', ...many))).toMatch(/^HTTP\/1\.1 (200|431) /)
    const cookie = `${'__proto__=1; constructor=2; =; ;;; %zz=%zz; '.repeat(50)}unstuck_session_${port}=%zz`
    expect((await get('/api/v1/health', { cookie })).status).toBe(401)
  })

  it('a slow client is hung up on: silent, dripping headers, or dripping a body', async () => {
    const { port, get } = await setup({}, { headersMs: 300, requestMs: 600, connections: 100 })
    const post = HEAD(
      'POST /api/v1/queues/img/pause HTTP/1.1',
      'host: localhost',
      'content-type: application/json',
      'content-length: 9',
    )
    const drips = ['', 'GET /livez HTTP/1.1\r\nhost: x\r\n', post].map(async (start) => {
      const socket = connect(port, '127.0.0.1')
      cleanups.push(() => socket.destroy())
      socket.on('error', () => undefined)
      if (start !== '') socket.write(start)
      const drip = setInterval(() => start !== '' && socket.write('x'), 100)
      socket.once('close', () => clearInterval(drip))
      return said(socket)
    })
    expect((await get('/livez')).status).toBe(200)
    const answers = await Promise.all(drips)
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 408 /)
    expect((await get('/livez')).status).toBe(200)
  })

  it('the bounds of the real server are short enough to matter', () => {
    expect(SERVER_LIMITS.headersMs).toBeLessThanOrEqual(10_000)
    expect(SERVER_LIMITS.requestMs).toBeLessThanOrEqual(30_000)
  })
})

describe('the watchdog itself', () => {
  it('E4: serves no address to strangers but the probes and the login page, and no file from outside of its own', async () => {
    const redis = await startTestRedis()
    cleanups.push(() => redis.stop())
    const watchdog = await startWatchdog(testConfig({ redisUrl: redis.url, http: TOKENS }), { id: 'w1' })
    cleanups.push(() => watchdog.stop())
    const port = Number(new URL(watchdog.address).port)
    const described = await send(port, 'GET', '/api/v1/openapi.json', FULL)
    const { paths } = JSON.parse(described.text) as { paths: Record<string, Record<string, unknown>> }
    const known = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => [method.toUpperCase(), path.replaceAll(/\{\w+\}/g, 'x')] as const),
    )
    expect(known.length).toBeGreaterThan(15)
    const pages = [
      '/',
      '/assets/app.js',
      '/queues',
      '/queues/',
      '/queues/api/queues',
      '/queues/static/x',
      '/metrics',
      '/api/v1/events',
    ]
    for (const [method, path] of [...known, ...pages.map((page) => ['GET', page] as const)]) {
      if (path === '/livez' || path === '/readyz') continue
      const refused = await send(port, method, path, {})
      expect(`${method} ${path} ${refused.status}`).toBe(`${method} ${path} 401`)
    }
    for (const folder of ['', '/queues/static', '/assets', '/assets/vendor', '/login.css']) {
      for (const way of [
        '..%2f..%2f..%2fpackage.json',
        '../../../package.json',
        '%2e%2e/%2e%2e/package.json',
        '..%5c..%5cpackage.json',
      ]) {
        const answer = await raw(port, HEAD(`GET ${folder}/${way} HTTP/1.1`, 'host: x', 'authorization: Bearer full-token'))
        expect(answer).toMatch(/^HTTP\/1\.1 40[034] /)
        expect(answer).not.toContain('devDependencies')
      }
    }
  })
})
