import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { jsonOf, KEPT_MS, SharedAnswers, writtenOnce } from '../../../src/http/shared-answers.js'
import { deferred } from '../../support/deferred.js'

const SIGN_WITHIN_MS = 600

function setup() {
  let sign: () => Promise<unknown> = async () => 'PONG'
  let signs = 0
  const shared = new SharedAnswers(() => {
    signs += 1
    return sign()
  })
  let reads = 0
  const read = async () => ({ reading: ++reads })
  return {
    shared,
    ask: async (question = 'q', how: () => Promise<object> = read) =>
      JSON.parse(String(await shared.of(question, how))) as unknown,
    signsAre: (next: () => Promise<unknown>) => {
      sign = next
    },
    signs: () => signs,
    reads: () => reads,
  }
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('an answer that many ask for', () => {
  it('is read once for all who ask while it is read, and a while after', async () => {
    const { ask, reads } = setup()
    const answers = await Promise.all([ask(), ask(), ask()])
    await vi.advanceTimersByTimeAsync(KEPT_MS - 1)
    expect([...answers, await ask()]).toEqual(Array(4).fill({ reading: 1 }))
    expect(reads()).toBe(1)
  })

  it('is as old as its reading, not as its arrival, and then nobody gets it', async () => {
    const { ask } = setup()
    const slow = deferred<object>()
    const first = ask('q', () => slow.promise)
    await vi.advanceTimersByTimeAsync(KEPT_MS)
    const second = ask()
    slow.resolve({ reading: 'slow' })
    expect([await first, await second]).toEqual([{ reading: 'slow' }, { reading: 1 }])
    await vi.advanceTimersByTimeAsync(KEPT_MS)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('is for its own question alone', async () => {
    const { ask } = setup()
    expect([await ask('a'), await ask('b'), await ask('a')]).toEqual([{ reading: 1 }, { reading: 2 }, { reading: 1 }])
  })

  it('is forgotten with an order, also while it is still read', async () => {
    const { shared, ask } = setup()
    await ask('a')
    const slow = deferred<object>()
    const before = ask('b', () => slow.promise)
    shared.forget()
    const after = [await ask('a'), await ask('b')]
    slow.resolve({ reading: 'before the order' })
    await before
    expect([...after, await ask('b')]).toEqual([{ reading: 2 }, { reading: 3 }, { reading: 3 }])
  })

  it('is no answer when it could not be read: all who waited hear why, and the next one reads', async () => {
    const { ask } = setup()
    const failing = deferred<object>()
    const waiting = [ask('q', () => failing.promise), ask()].map((answer) => answer.catch((error: Error) => error.message))
    failing.reject(new Error('no such queue'))
    expect(await Promise.all(waiting)).toEqual(['no such queue', 'no such queue'])
    expect(await ask()).toEqual({ reading: 1 })
  })

  it('A7: is given only after a sign of life of the store; many put one question for it', async () => {
    const { ask, signsAre, signs } = setup()
    await ask()
    expect(signs()).toBe(0)
    await Promise.all([ask(), ask(), ask()])
    expect(signs()).toBe(1)
    signsAre(() => Promise.reject(new Error('Connection is closed.')))
    await expect(ask()).rejects.toMatchObject({ code: 'REDIS_UNREACHABLE' })
    signsAre(async () => 'PONG')
    expect(await ask()).toEqual({ reading: 1 })
  })

  it('A7: is not waited for when the store is silent', async () => {
    const { ask, signsAre } = setup()
    await ask()
    signsAre(() => deferred().promise)
    const refused = expect(ask()).rejects.toMatchObject({ code: 'REDIS_UNREACHABLE' })
    await vi.advanceTimersByTimeAsync(SIGN_WITHIN_MS)
    await refused
  })

  it('takes a bounded place, however many different questions come', async () => {
    const { ask, reads } = setup()
    for (let question = 0; question < 101; question += 1) await ask(`q${question}`)
    await ask('q1')
    expect(reads()).toBe(101)
    await ask('q0')
    expect(reads()).toBe(102)
  })
})

describe('what is written out once', () => {
  it('is written again for another thing only', () => {
    let times = 0
    const answer = () => ({ times: ++times })
    const [one, other] = [{}, {}]
    expect([writtenOnce(one, answer), writtenOnce(one, answer), writtenOnce(other, answer)].map(String)).toEqual([
      '{"times":1}',
      '{"times":1}',
      '{"times":2}',
    ])
  })

  it('is JSON in UTF-8', () => {
    expect(jsonOf({ id: 'ä€😀' }).toString('utf8')).toBe('{"id":"ä€😀"}')
  })
})
