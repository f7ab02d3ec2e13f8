import { describe, expect, it } from 'vitest'
import { Turns } from '../../../src/http/turns.js'

const IN_A_TURN = 16

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

function setup() {
  const turns = new Turns()
  const served: string[] = []
  const ask = (names: readonly string[]) => {
    for (const name of names) turns.take(() => void served.push(name))
  }
  return { turns, served, ask }
}

const many = (count: number, first = 0) => Array.from({ length: count }, (_, index) => `r${first + index}`)

describe('turns of the event loop', () => {
  it('serves what few ask at once', () => {
    const { served, ask } = setup()
    ask(many(IN_A_TURN))
    expect(served).toEqual(many(IN_A_TURN))
  })

  it('serves what many ask a few in each turn, in order, so that others come between', async () => {
    const { served, ask } = setup()
    ask(many(50))
    const after = [served.length]
    while (served.length < 50) {
      await nextTurn()
      after.push(served.length)
    }
    expect(after).toEqual([16, 32, 48, 50])
    expect(served).toEqual(many(50))
  })

  it('lets nobody past who came later, and counts what comes meanwhile into the same turn', async () => {
    const { served, ask } = setup()
    ask(many(20))
    await nextTurn()
    expect(served).toEqual(many(20))
    ask(many(20, 20))
    expect(served).toEqual(many(32))
    await nextTurn()
    expect(served).toEqual(many(40))
  })

  it('begins anew after a quiet turn', async () => {
    const { served, ask } = setup()
    ask(many(IN_A_TURN))
    await nextTurn()
    await nextTurn()
    ask(many(IN_A_TURN, IN_A_TURN))
    expect(served).toEqual(many(2 * IN_A_TURN))
  })

  it('serves on when what it served asks again', async () => {
    const { turns, served } = setup()
    const again = (left: number): void => {
      served.push('x')
      if (left > 0) turns.take(() => again(left - 1))
    }
    turns.take(() => again(99))
    while (served.length < 100) await nextTurn()
    expect(served).toHaveLength(100)
  })
})
