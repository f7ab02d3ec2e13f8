import { beforeEach, describe, expect, it, vi } from 'vitest'
import { type AccessRules, judge, type Knock, localAddress, rightsOf } from '../../../src/http/access.js'

const compared = vi.hoisted(() => vi.fn())
vi.mock('node:crypto', async (original) => {
  const crypto = await original<typeof import('node:crypto')>()
  const timingSafeEqual = (a: Buffer, b: Buffer) => {
    compared(a.length, b.length)
    return crypto.timingSafeEqual(a, b)
  }
  return { ...crypto, timingSafeEqual }
})

const NO_TOKEN: AccessRules = { token: undefined, readToken: undefined, openMetrics: false }
const TOKENS: AccessRules = { token: 'full', readToken: 'reading', openMetrics: false }

function knock(over: Partial<Knock> = {}): Knock {
  const route = over.route ?? '/api/v1/health'
  return {
    ...{ method: 'GET', route, url: route, address: '127.0.0.1', host: '127.0.0.1:7373' },
    ...{ origin: undefined, authorization: undefined, session: undefined },
    ...{ fetchSite: undefined, fetchMode: undefined, fetchDest: undefined },
    ...over,
  }
}

const codeOf = (rules: AccessRules, over: Partial<Knock>) => judge(knock(over), rules).refusal?.code
const accessOf = (rules: AccessRules, over: Partial<Knock>) => judge(knock(over), rules).access

describe('judge without a token', () => {
  it.each(['localhost', 'localhost:7373', 'LOCALHOST:1', '127.0.0.1', '127.8.9.1:80', '[::1]', '[::1]:7373'])(
    'lets a loopback Host do everything: %s',
    (host) => {
      expect(accessOf(NO_TOKEN, { host, method: 'POST' })).toEqual({
        ...{ kind: 'loopback', rights: 'all', actor: 'http:127.0.0.1' },
      })
    },
  )

  it.each([
    ...[undefined, '', 'evil.example', '127.0.0.1.evil.example', 'localhost.evil.example', 'evil.example:7373', '0.0.0.0'],
    ...['10.0.0.1', 'localhost:x', 'localhost:7373:80', 'user@localhost', 'localhost, evil.example', '[::1].evil', '127.1'],
  ])('E4: refuses a foreign Host, as after DNS rebinding: %s', (host) => {
    expect(codeOf(NO_TOKEN, { host })).toBe('FOREIGN_HOST')
    expect(codeOf(NO_TOKEN, { host, method: 'POST' })).toBe('FOREIGN_HOST')
  })

  it.each([
    ...['http://evil.example', 'null', '', 'http://localhost:3000', 'http://127.0.0.1', 'file://', 'http://127.0.0.1:73733'],
    ...[
      'http://127.0.0.1:7373@evil.example',
      'http://evil.example#127.0.0.1:7373',
      'http://127.0.0.1:7373/',
      'ftp://127.0.0.1:7373',
    ],
  ])('E4: refuses a foreign Origin, whatever the method: %s', (origin) => {
    for (const method of ['GET', 'POST', 'DELETE', 'OPTIONS'])
      expect(codeOf(NO_TOKEN, { origin, method })).toBe('FOREIGN_ORIGIN')
  })

  it('lets its own page ask, under every name of the loopback and behind a proxy of its own', () => {
    const own = { method: 'POST', fetchSite: 'same-origin' }
    expect(accessOf(NO_TOKEN, { ...own, origin: 'http://127.0.0.1:7373' })).toBeDefined()
    expect(accessOf(NO_TOKEN, { ...own, host: 'localhost:7373', origin: 'HTTP://LocalHost:7373' })).toBeDefined()
    expect(accessOf(NO_TOKEN, { ...own, host: '[::1]:7373', origin: 'http://[::1]:7373' })).toBeDefined()
    expect(accessOf(NO_TOKEN, { ...own, host: 'localhost:443', origin: 'https://localhost' })).toBeDefined()
    expect(accessOf(NO_TOKEN, { ...own, host: 'localhost', origin: 'http://localhost:80' })).toBeDefined()
  })

  it.each(['cross-site', 'same-site', 'something-new'])('E4: refuses what a browser says comes from %s', (fetchSite) => {
    expect(codeOf(NO_TOKEN, { fetchSite })).toBe('FOREIGN_ORIGIN')
    expect(codeOf(NO_TOKEN, { fetchSite, method: 'POST' })).toBe('FOREIGN_ORIGIN')
    expect(accessOf(NO_TOKEN, { fetchSite: 'none' })).toBeDefined()
  })

  it('follows a link from another site to the page, and never to the API, into a frame or with a POST', () => {
    const link = { fetchSite: 'cross-site', fetchMode: 'navigate', fetchDest: 'document', route: '/' }
    expect(accessOf(NO_TOKEN, link)).toBeDefined()
    expect(codeOf(NO_TOKEN, { ...link, route: '/api/v1/health' })).toBe('FOREIGN_ORIGIN')
    expect(codeOf(NO_TOKEN, { ...link, fetchDest: 'iframe' })).toBe('FOREIGN_ORIGIN')
    expect(codeOf(NO_TOKEN, { ...link, fetchMode: 'no-cors' })).toBe('FOREIGN_ORIGIN')
    expect(codeOf(NO_TOKEN, { ...link, method: 'POST' })).toBe('FOREIGN_ORIGIN')
    expect(codeOf(NO_TOKEN, { ...link, origin: 'http://evil.example' })).toBe('FOREIGN_ORIGIN')
    expect(codeOf(NO_TOKEN, { ...link, host: 'evil.example' })).toBe('FOREIGN_HOST')
  })
})

describe('judge with tokens', () => {
  beforeEach(() => compared.mockClear())

  it('gives a bearer what its token may, from any Host', () => {
    const host = 'anything.example'
    expect(accessOf(TOKENS, { host, authorization: 'Bearer full', method: 'POST' })).toEqual({
      ...{ kind: 'bearer', rights: 'all', actor: 'http:token 127.0.0.1' },
    })
    expect(accessOf(TOKENS, { host, authorization: 'bearer reading' })).toEqual({
      ...{ kind: 'bearer', rights: 'read', actor: 'http:read token 127.0.0.1' },
    })
    expect(accessOf(TOKENS, { authorization: 'Bearer reading', method: 'HEAD' })).toBeDefined()
  })

  it.each(['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'QUERY'])('the read token may not %s', (method) => {
    expect(codeOf(TOKENS, { authorization: 'Bearer reading', method })).toBe('READ_ONLY')
    expect(codeOf(TOKENS, { session: 'read', origin: 'http://127.0.0.1:7373', method })).toBe('READ_ONLY')
  })

  it.each([
    ...[
      undefined,
      '',
      'full',
      'Bearer',
      'Bearer ',
      'Bearer ful',
      'Bearer fulll',
      'Bearer FULL',
      'Basic full',
      'Bearer full,reading',
    ],
    ...['Bearer undefined', `Bearer ${'x'.repeat(10_000)}`, 'Bearer \u00ff\u0000', 'Bearerfull', 'Bearer\tfull', 'Token full'],
  ])('E4: refuses a wrong token: %s', (authorization) => {
    expect(codeOf(TOKENS, { authorization })).toBe('UNAUTHORIZED')
    expect(codeOf(TOKENS, { authorization, method: 'POST' })).toBe('UNAUTHORIZED')
  })

  it('a wrong token is not healed by a session', () => {
    expect(codeOf(TOKENS, { authorization: 'Bearer wrong', session: 'all' })).toBe('UNAUTHORIZED')
  })

  it('a session looks, and acts from our own page only', () => {
    const host = 'unstuck.example'
    const asked = { host, session: 'all', address: '10.0.0.7' } as const
    const own = { origin: 'https://unstuck.example', fetchSite: 'same-origin' }
    expect(accessOf(TOKENS, asked)).toEqual({ kind: 'cookie', rights: 'all', actor: 'http:login 10.0.0.7' })
    expect(accessOf(TOKENS, { ...asked, ...own, method: 'POST' })).toBeDefined()
    expect(codeOf(TOKENS, { ...asked, method: 'POST' })).toBe('FOREIGN_ORIGIN')
    for (const origin of [
      'https://evil.example',
      'null',
      'https://unstuck.example:8443',
      'https://unstuck.example.evil.example',
    ])
      expect(codeOf(TOKENS, { ...asked, origin, method: 'POST' })).toBe('FOREIGN_ORIGIN')
    expect(codeOf(TOKENS, { ...asked, fetchSite: 'same-site' })).toBe('FOREIGN_ORIGIN')
    expect(codeOf(TOKENS, { ...asked, ...own, fetchSite: 'cross-site', method: 'POST' })).toBe('FOREIGN_ORIGIN')
  })

  it('lets anybody see the login page, and only its own page send it', () => {
    for (const route of ['/login', '/login.css', '/login.js'])
      expect(accessOf(TOKENS, { route })).toMatchObject({ kind: 'open', rights: 'none' })
    const post = { route: '/login', method: 'POST' }
    expect(accessOf(TOKENS, { ...post, origin: 'http://127.0.0.1:7373', session: 'read' })).toMatchObject({ kind: 'open' })
    expect(codeOf(TOKENS, { ...post, origin: 'http://evil.example' })).toBe('FOREIGN_ORIGIN')
  })

  it('probes are open, metrics when it is said, and both to reading only', () => {
    for (const rules of [TOKENS, NO_TOKEN]) {
      for (const route of ['/livez', '/readyz']) {
        expect(accessOf(rules, { route, host: '10.1.2.3:7373' })).toMatchObject({ kind: 'open' })
        expect(codeOf(rules, { route, host: '10.1.2.3:7373', method: 'POST' })).toBeDefined()
      }
      expect(codeOf(rules, { route: '/metrics', host: '10.1.2.3:7373' })).toBeDefined()
      expect(accessOf({ ...rules, openMetrics: true }, { route: '/metrics', host: '10.1.2.3:7373' })).toMatchObject({
        kind: 'open',
      })
    }
  })

  it('is judged by the route that will answer, not by how the address is written', () => {
    expect(codeOf(TOKENS, { route: '/api/v1/health', url: '/livez/../api/v1/health' })).toBe('UNAUTHORIZED')
    expect(codeOf(TOKENS, { route: undefined, url: '/livez/' })).toBe('UNAUTHORIZED')
  })

  it.each(['token=full', 'a=1&access_token=full', 'TOKEN=', 'readToken=reading', '%74oken=full', 'auth-token=full'])(
    'E4: refuses a token in an address, and says so, even beside a right one: ?%s',
    (query) => {
      const url = `/api/v1/health?${query}`
      expect(codeOf(TOKENS, { url })).toBe('TOKEN_IN_ADDRESS')
      expect(codeOf(TOKENS, { url, authorization: 'Bearer full' })).toBe('TOKEN_IN_ADDRESS')
      expect(codeOf(TOKENS, { url: `/login?${query}`, route: '/login' })).toBe('TOKEN_IN_ADDRESS')
      expect(accessOf(TOKENS, { url: '/api/v1/x?next_token_page=1', authorization: 'Bearer full' })).toBeDefined()
    },
  )

  it('E4: compares digests of one length in constant time, both tokens each time', () => {
    for (const given of ['full', 'reading', 'x', '', 'y'.repeat(5000)]) {
      compared.mockClear()
      rightsOf(given, TOKENS)
      expect(compared.mock.calls).toEqual([
        [32, 32],
        [32, 32],
      ])
    }
  })
})

describe('localAddress', () => {
  it.each(['/', '/?job=1&queue=a%2Fb', '/queues/queue/x', '/a/../b'])('leads to an address of ours: %s', (asked) => {
    expect(localAddress(asked)).toBe(asked)
  })

  it.each([
    ...[
      undefined,
      null,
      ['/a'],
      '',
      'a',
      '//evil.example',
      '/\\evil.example',
      '/a\\b',
      'http://evil.example',
      'javascript:alert(1)',
    ],
    ...['/a b', '/\t/evil.example', '/\n', '/\u0000', '/é', '/login', '/login?next=/', '/logout'],
  ])('E4: leads nowhere else: %s', (asked) => {
    expect(localAddress(asked)).toBe('/')
  })
})
