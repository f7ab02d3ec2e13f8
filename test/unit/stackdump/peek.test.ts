import vm from 'node:vm'
import { afterEach, describe, expect, it } from 'vitest'
import { PEEK_EXPRESSION, readPeek } from '../../../src/stackdump/peek.js'
import { entryPoint, installLook, LOOK_NAME } from '../../../src/stackdump/thread-look.js'

/** Evaluates the probe as the inspector does: in this realm, on top of this stack. */
function peekHere() {
  return readPeek(vm.runInThisContext(PEEK_EXPRESSION), 7)
}

afterEach(() => {
  Reflect.deleteProperty(globalThis, Symbol.for(LOOK_NAME))
})

describe('a peek', () => {
  it('shows what it interrupted', () => {
    function chargeCustomer() {
      return peekHere()
    }
    const peek = chargeCustomer()
    expect(peek).toMatchObject({ atMs: 7, steps: [], collected: [] })
    expect(peek?.frames.map(({ fn }) => fn)).toContain('chargeCustomer')
    expect(peek?.jobs).toBeUndefined()
  })

  it('brings the steps that the thread tells, with the place where each was entered, and no more', () => {
    const step = () => entryPoint(step)
    const charge = () => step()
    const entered = charge()
    installLook(() => ({
      tid: 12,
      jobs: [{ id: 'j1', steps: [{ name: 'fetch rates', ageMs: 40, entered }], collected: true }],
    }))
    const peek = peekHere()
    expect(peek).toMatchObject({ tid: 12, jobs: 1, collected: ['j1'] })
    expect(peek?.steps).toMatchObject([{ name: 'fetch rates', ageMs: 40, job: 'j1', enteredAt: { fn: 'charge' } }])
  })

  it('survives what a job did to Error, and leaves it as it was', () => {
    const { stackTraceLimit, prepareStackTrace } = Error
    const spy = () => {
      throw new Error('ran in the middle of the job')
    }
    try {
      Error.stackTraceLimit = 1
      Error.prepareStackTrace = spy
      expect(peekHere()?.frames.length).toBeGreaterThan(1)
      expect(Error.prepareStackTrace).toBe(spy)
      expect(Error.stackTraceLimit).toBe(1)
    } finally {
      Error.stackTraceLimit = stackTraceLimit
      Error.prepareStackTrace = prepareStackTrace
    }
  })

  it('survives a thread that tells nonsense', () => {
    Object.defineProperty(globalThis, Symbol.for(LOOK_NAME), { value: () => 'nonsense', configurable: true })
    expect(peekHere()?.frames.length).toBeGreaterThan(0)
  })

  it.each([undefined, 7, 'x', '[]'])('of %j is none', (answer) => {
    expect(readPeek(answer, 0)).toBeUndefined()
  })
})
