import { describe, expect, it, onTestFinished } from 'vitest'
import { InspectorCapture } from '../../../src/stackdump/inspector-capture.js'
import { canReadThreads, ownTid } from '../../../src/stackdump/node-proc-threads.js'
import { deferred } from '../../support/deferred.js'

function setup({ inspector = true } = {}) {
  const had = Object.getOwnPropertyDescriptor(process.features, 'inspector')
  Object.defineProperty(process.features, 'inspector', { value: inspector, configurable: true, enumerable: true })
  onTestFinished(() => {
    if (had) Object.defineProperty(process.features, 'inspector', had)
  })
  const logged: string[] = []
  const capture = new InspectorCapture({ tids: () => ownTid(), log: (message) => logged.push(message) })
  return { capture, logged }
}

describe('the capture of dumps', () => {
  it('says what it cannot see in a build without an inspector', async () => {
    const { capture } = setup({ inspector: false })
    const core = await capture.dumpThread(1, { busy: true })
    expect(core.class).toBe(canReadThreads() ? 'running' : 'unseen')
    expect(core.notes[0]).toBe('this build of Node has no inspector: no JavaScript stacks')
  })

  it('says so where it stands in a thread that may not look', async () => {
    // A main thread cannot be its own sentinel.
    const { capture, logged } = setup()
    const core = await capture.dumpMain()
    expect(core.samples).toEqual([])
    expect(core.notes[0]).toMatch(/^the inspector may not be used: /)
    expect(logged).toEqual([])
  })

  it('waits while something exclusive runs, and goes on when that failed', async () => {
    const { capture } = setup({ inspector: false })
    const order: string[] = []
    const ending = deferred<void>()
    const failed = capture.exclusive(async () => {
      await ending.promise
      order.push('ended')
      throw new Error('it did not go')
    })
    const dump = capture.dumpThread(1).then(() => order.push('dumped'))
    ending.resolve()
    await expect(failed).rejects.toThrow('it did not go')
    await dump
    expect(order).toEqual(['ended', 'dumped'])
  })

  it('takes together what is asked for meanwhile, and gives each asker its own', async () => {
    const { capture } = setup({ inspector: false })
    const ending = deferred<void>()
    const before = capture.exclusive(() => ending.promise)
    const asked = [[1, 2], [2], []].map((targets) => capture.dumpAll(targets.map((target) => ({ target }))))
    const after: string[] = []
    const last = capture.exclusive(async () => after.push('after all of them'))
    ending.resolve()
    await before
    expect((await Promise.all(asked)).map((cores) => cores.length)).toEqual([2, 1, 0])
    await last
    expect(after).toEqual(['after all of them'])
  })
})
