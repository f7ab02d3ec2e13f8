import { describe, expect, it } from 'vitest'
import { UndoStack } from '../../../src/kernel/undo-stack.js'

function setup() {
  const done: string[] = []
  const told: string[] = []
  const stack = new UndoStack()
  const push = (step: string, run: () => Promise<void> | void = () => undefined) =>
    stack.push(step, () => {
      done.push(step)
      return run()
    })
  const unwind = () => stack.unwind((step, error) => told.push(`${step}: ${error instanceof Error ? error.message : 'odd'}`))
  return { done, told, push, unwind }
}

describe('an undo stack', () => {
  it('undoes the last step first, and each before the next', async () => {
    const { push, unwind, done } = setup()
    push('a')
    push('b', async () => {
      await Promise.resolve()
      done.push('b is over')
    })
    push('c')
    expect(await unwind()).toEqual([])
    expect(done).toEqual(['c', 'b', 'b is over', 'a'])
  })

  it('goes on after an undo that fails, tells it and returns its name', async () => {
    const { push, unwind, done, told } = setup()
    push('a')
    push('b', () => Promise.reject(new Error('stuck')))
    push('c', () => {
      throw new Error('gone')
    })
    expect(await unwind()).toEqual(['c', 'b'])
    expect(done).toEqual(['c', 'b', 'a'])
    expect(told).toEqual(['c: gone', 'b: stuck'])
  })

  it('undoes nothing twice', async () => {
    const { push, unwind, done } = setup()
    push('a', () => Promise.reject(new Error('stuck')))
    await unwind()
    expect(await unwind()).toEqual([])
    expect(done).toEqual(['a'])
  })
})
