import { describe, expect, it } from 'vitest'
import { loginPage } from '../../../src/http/login-page.js'
import { LoginSessions, SESSION_MS } from '../../../src/http/login-sessions.js'

function setup() {
  const clock = { now: 0 }
  const pass = (ms: number) => {
    clock.now += ms
  }
  return { sessions: new LoginSessions({ monotonicMs: () => clock.now }), pass }
}

describe('login sessions', () => {
  it('know who logged in with which rights, until they log out', () => {
    const { sessions } = setup()
    const [full, read] = [sessions.open('all'), sessions.open('read')]
    expect(full).toMatch(/^[A-Za-z0-9_-]{43}$/)
    expect(full).not.toBe(read)
    expect([sessions.find(full), sessions.find(read)]).toEqual(['all', 'read'])
    sessions.close(full)
    expect([sessions.find(full), sessions.find(read)]).toEqual([undefined, 'read'])
    for (const id of [undefined, '', 'x', '__proto__', `${read}x`]) expect(sessions.find(id)).toBeUndefined()
  })

  it('end after 12 hours', () => {
    const { sessions, pass } = setup()
    const id = sessions.open('all')
    pass(SESSION_MS - 1)
    expect(sessions.find(id)).toBe('all')
    pass(1)
    expect(sessions.find(id)).toBeUndefined()
  })

  it('are never more than a thousand: the oldest goes', () => {
    const { sessions } = setup()
    const ids = Array.from({ length: 1001 }, () => sessions.open('read'))
    expect([ids[0], ids[1], ids[1000]].map((id) => sessions.find(id))).toEqual([undefined, 'read', 'read'])
  })
})

describe('the login page', () => {
  it('E4: escapes what it shows, and has no script and no style in itself', () => {
    const html = loginPage({ next: '/"><script>alert(1)</script>', problem: '<b>', again: '/login?again=1&next="' })
    expect(html).not.toMatch(/<script(?! src="\/login\.js"[^>]*><\/script>)|<b>|<style|style=|\son[a-z]+=/)
    expect(html).toContain('value="/&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"')
    expect(html).toContain('content="0;url=/login?again=1&amp;next=&quot;"')
  })
})
