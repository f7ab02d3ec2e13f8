import { describe, expect, it } from 'vitest'
import { Gatherer } from '../../../src/kernel/gatherer.js'
import { FakeTime } from '../../support/fake-time.js'

function setup(windowMs?: number) {
  const time = new FakeTime()
  const said: [string, number][] = []
  const gatherer = new Gatherer({
    ...(windowMs === undefined ? {} : { windowMs }),
    monotonicMs: time.monotonicMs,
    say: (message, count) => said.push([message, count]),
  })
  return { gatherer, said, time }
}

describe('a gatherer', () => {
  it('says the first of a kind at once', () => {
    const { gatherer, said } = setup()
    gatherer.add('a')
    gatherer.add('b')
    expect(said).toEqual([
      ['a', 1],
      ['b', 1],
    ])
  })

  it('counts repetitions within a minute, and says how many with the next one after it', () => {
    const { gatherer, said, time } = setup()
    for (let times = 0; times < 1000; times += 1) gatherer.add('a')
    time.freeze(59_999)
    gatherer.add('a')
    expect(said).toEqual([['a', 1]])
    time.freeze(1)
    gatherer.add('a')
    expect(said).toEqual([
      ['a', 1],
      ['a', 1001],
    ])
    time.freeze(60_000)
    gatherer.add('a')
    expect(said.at(-1)).toEqual(['a', 1])
  })

  it('keeps to its own window', () => {
    const { gatherer, said, time } = setup(10)
    gatherer.add('a')
    time.freeze(10)
    gatherer.add('a')
    expect(said).toHaveLength(2)
  })

  it('remembers a bounded number of kinds, the youngest', () => {
    const { gatherer, said } = setup()
    for (let kind = 0; kind <= 200; kind += 1) gatherer.add(`kind ${kind}`)
    gatherer.add('kind 200')
    expect(said).toHaveLength(201)
    gatherer.add('kind 0')
    expect(said).toHaveLength(202)
  })
})
