import { describe, expect, it } from 'vitest'
import { brokenRoutes } from '../../../src/http/broken-routes.js'

function setup() {
  const lines: { fields: object; message: string }[] = []
  let now = 0
  const broken = brokenRoutes({ warn: (fields, message) => void lines.push({ fields, message }) }, () => now)
  return {
    ...{ lines, broken },
    pass: (ms: number) => {
      now += ms
    },
    messages: () => lines.map(({ message }) => message),
  }
}

const ROUTE = 'GET /api/v1/queues/:queue/jobs/:id'

/** As it is thrown deep inside, with a message that quotes what was asked. */
function thrown(): unknown {
  try {
    return JSON.parse('secret job data')
  } catch (error) {
    return error
  }
}

describe('a request that broke inside', () => {
  it('E5: is a line with its route and the place in the code, and nothing of what was asked', () => {
    const { broken, lines } = setup()
    broken(ROUTE, thrown())
    expect(lines).toEqual([{ fields: { event: 'error', count: 1 }, message: expect.stringContaining(ROUTE) as string }])
    expect(lines[0]?.message).toMatch(/could not be served: SyntaxError at .*\(broken-routes\.test\.ts:\d+\)$/)
    expect(JSON.stringify(lines)).not.toContain('secret')
  })

  it('names the word that Redis begins with, and whatever else was thrown by its kind', () => {
    const { broken, messages } = setup()
    const error = Object.assign(new Error('WRONGTYPE Operation against secret'), { name: 'ReplyError', stack: '' })
    broken(ROUTE, error)
    broken(ROUTE, Object.assign(new Error('secret\n    at secret (secret.js:1:1)'), { stack: undefined }))
    broken(ROUTE, 'secret')
    expect(messages().map((message) => message.replace(`${ROUTE} could not be served: `, ''))).toEqual([
      'ReplyError WRONGTYPE',
      'Error',
      'a string was thrown',
    ])
  })

  it('is said at once, and then counted while it goes on', () => {
    const { broken, lines, pass } = setup()
    const error = thrown()
    for (let times = 0; times < 1000; times += 1) broken(ROUTE, error)
    expect(lines).toHaveLength(1)
    pass(60_000)
    broken(ROUTE, error)
    expect(lines[1]).toMatchObject({ fields: { event: 'error', count: 1000 } })
    expect(lines[1]?.message).toMatch(/ \(1000 times\)$/)
  })
})
