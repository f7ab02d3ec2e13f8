import { describe, expect, it } from 'vitest'
import { ThreadEnds, type ThreadEndsOptions } from '../../../src/dispatch/thread-ends.js'
import { FakeTime } from '../../support/fake-time.js'

function setup({ zombieLimit = 1, timer }: Partial<ThreadEndsOptions> = {}) {
  const time = new FakeTime(0)
  const log: string[] = []
  const note = (what: string) => log.push(`${time.nowMs} ${what}`)
  const ends = new ThreadEnds({
    zombieLimit,
    endChildren: (threadId) => note(`children of ${threadId}`),
    onZombie: (threadId) => note(`zombie ${threadId}`),
    onTooManyZombies: () => note('too many'),
    timer: timer ?? time.timer,
  })
  const giveUp = (threadId: number) => ends.gaveUp({ threadId, terminate: () => note(`terminate ${threadId}`) })
  return { time, log, ends, giveUp }
}

describe('the end of a thread that was given up', () => {
  it('is ordered again, then its children are ended, then it is a zombie', async () => {
    const { time, log, ends, giveUp } = setup()
    giveUp(7)
    await time.advance(60_000)
    expect(log).toEqual(['250 terminate 7', '500 children of 7', '2500 zombie 7'])
    expect(ends.zombies).toBe(1)
  })

  it.each([
    [100, []],
    [300, ['250 terminate 7']],
    [2000, ['250 terminate 7', '500 children of 7']],
  ])('leaves it in peace when it came after %i ms', async (ms, said) => {
    const { time, log, ends, giveUp } = setup()
    giveUp(7)
    await time.advance(ms)
    ends.exited(7)
    await time.advance(60_000)
    expect(log).toEqual(said)
    expect(ends.zombies).toBe(0)
  })

  it('counts a zombie only until it ends after all', async () => {
    const { time, ends, giveUp } = setup()
    giveUp(7)
    await time.advance(2500)
    ends.exited(7)
    expect(ends.zombies).toBe(0)
  })

  it('may come between a timer that fell due and its turn', async () => {
    const due: (() => void)[] = []
    const { log, ends, giveUp } = setup({
      timer: (run) => {
        due.push(run)
        return () => undefined
      },
    })
    giveUp(7)
    ends.exited(7)
    for (const run of due) run()
    expect(log).toEqual([])
  })

  it('is followed once, however often it is given up', async () => {
    const { time, log, giveUp } = setup()
    giveUp(7)
    giveUp(7)
    await time.advance(2500)
    giveUp(7)
    await time.advance(60_000)
    expect(log).toEqual(['250 terminate 7', '500 children of 7', '2500 zombie 7'])
  })

  it('is said to be too much when there are more zombies than are borne, once', async () => {
    const { time, log, ends, giveUp } = setup({ zombieLimit: 2 })
    for (const threadId of [1, 2, 3, 4]) {
      giveUp(threadId)
      await time.advance(2500)
    }
    expect(log.filter((line) => / zombie | too many$/.test(line))).toEqual([
      '2500 zombie 1',
      '5000 zombie 2',
      '7500 zombie 3',
      '7500 too many',
      '10000 zombie 4',
    ])
    expect(ends.zombies).toBe(4)
  })
})
