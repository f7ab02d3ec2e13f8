import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BeatBoard, type JobCellRef } from '../../../src/heartbeat/beat-board.js'
import { FETCH, QUEUE, testBoard } from '../../support/boards.js'

const TWO_POW_31 = 2 ** 31
const TWO_POW_32 = 2 ** 32

function claim(board: BeatBoard, id = 'j1', attempt = 1, fence = 1): JobCellRef {
  const ref = board.claimJob(QUEUE, id, attempt, fence)
  if (!ref) throw new Error('no free cell')
  return ref
}

/** What another thread sees: the same memory through its own board. */
function otherThread(board: BeatBoard, monotonicMs: () => number): BeatBoard {
  return new BeatBoard(board.handle, monotonicMs)
}

describe('board: the process and its loops', () => {
  it('shows another thread the age of the last turn of the main event loop', () => {
    const { board, time } = testBoard()
    const other = otherThread(board, time.monotonicMs)
    time.freeze(700)
    expect(other.mainAgeMs).toBe(700)
    board.mainTurned()
    expect(other.mainAgeMs).toBe(0)
  })

  it('shows the state of the process', () => {
    const { board, time } = testBoard()
    board.processState = 'draining'
    expect(otherThread(board, time.monotonicMs).processState).toBe('draining')
  })

  it('a loop begins as starting, without cycles and without an end', () => {
    const { board, time } = testBoard()
    time.freeze(10)
    expect(board.readLoop(FETCH)).toMatchObject({
      state: 'starting',
      stateAgeMs: 10,
      cycles: 0,
      inFlight: 0,
      endedAgeMs: undefined,
    })
  })

  it('saying the same state again does not make it younger', () => {
    const { board, time } = testBoard()
    const loop = board.loopWriter(FETCH)
    loop.state('polling')
    time.freeze(500)
    loop.state('polling')
    expect(board.readLoop(FETCH).stateAgeMs).toBe(500)
    loop.state('paused')
    expect(board.readLoop(FETCH).stateAgeMs).toBe(0)
  })

  it('with nothing in flight any more the last call stays to be seen', () => {
    const { board, time } = testBoard()
    const loop = board.loopWriter(FETCH)
    loop.oldest(1, board.stamp(), 'waitForJob', 5000)
    time.freeze(40)
    loop.ended()
    loop.oldest(0, board.stamp(), '', 0)
    expect(board.readLoop(FETCH)).toMatchObject({ inFlight: 0, sinceAgeMs: 40, phase: 'waitForJob', endedAgeMs: 0 })
  })

  it.each([TWO_POW_31, TWO_POW_32, 3 * TWO_POW_31])('ages stay right while the stamps wrap around %d ms', (wrap) => {
    const { board, time } = testBoard()
    time.freeze(wrap - 100)
    board.mainTurned()
    const loop = board.loopWriter(FETCH)
    loop.oldest(1, board.stamp(), 'moveToActive', 0)
    loop.ended()
    loop.limitedFor(1000)
    const ref = claim(board)
    time.freeze(250)
    expect(board.mainAgeMs).toBe(250)
    expect(board.readLoop(FETCH)).toMatchObject({ sinceAgeMs: 250, endedAgeMs: 250, limitedForMs: 750 })
    expect(board.readJobs()).toMatchObject([{ runningMs: 250, silentMs: 250, lockAgeMs: 250 }])
    board.jobAlive(ref)
    expect(board.readJobs()).toMatchObject([{ silentMs: 0 }])
  })

  it('a stamp of a thread whose clock was read a moment later is age 0', () => {
    const { board, time } = testBoard()
    otherThread(board, () => time.nowMs + 3).mainTurned()
    expect(board.mainAgeMs).toBe(0)
  })
})

describe('board: room', () => {
  it.each([
    ['threads', 2, 20, 28],
    ['sessions, where adopted ones come on top of those that were fetched', 0, 20, 48],
  ])('has cells for a queue of %s', (_, threads, slots, room) => {
    const board = BeatBoard.create({ queues: [{ name: 'a', threads, slots }], loops: [] }, () => 0)
    for (let n = 0; n < room; n += 1) expect(board.claimJob(0, `j${n}`, 1, 1)).toBeDefined()
    expect(board.claimJob(0, 'one more', 1, 1)).toBeUndefined()
  })
})

describe('board: threads', () => {
  it('places are numbered from 1 in each queue, and a successor takes the lowest free one with a new generation', () => {
    const { board } = testBoard()
    const first = board.claimThread(QUEUE, 11)
    const second = board.claimThread(QUEUE, 12)
    expect([first, second].map((cell) => board.threadNumber(cell))).toEqual([1, 2])
    board.freeThread(11)
    const successor = board.claimThread(QUEUE, 13)
    expect(board.readThreads()).toMatchObject([
      { number: 1, generation: 2, threadId: 13 },
      { number: 2, generation: 1, threadId: 12 },
    ])
    expect(successor).toBe(first)
  })

  it('queues do not take each other’s places, and numbers do not shift when one is full', () => {
    const queues = ['a', 'b'].map((name) => ({ name, threads: 1, slots: 1 }))
    const board = BeatBoard.create({ queues, loops: [] }, () => 0)
    const cells = Array.from({ length: 5 }, (_, index) => board.claimThread(0, 100 + index))
    expect(cells.map((cell) => board.threadNumber(cell))).toEqual([1, 2, 3, 4, 0])
    expect(cells.at(-1)).toBe(-1)
    expect(board.threadNumber(board.claimThread(1, 200))).toBe(1)
    expect(board.readThreads().map(({ queue, number }) => [queue, number])).toEqual([
      [0, 1],
      [0, 2],
      [0, 3],
      [0, 4],
      [1, 1],
    ])
  })

  it('a queue that the board does not know has no place', () => {
    const { board } = testBoard()
    expect(board.claimThread(7, 1)).toBe(-1)
  })

  it('taking a job counts as a turn, since an idle thread does not turn', () => {
    const { board, time } = testBoard()
    const cell = board.claimThread(QUEUE, 11)
    time.freeze(60_000)
    board.threadTook(cell)
    expect(board.readThreads()).toMatchObject([{ jobs: 1, tickAgeMs: 0 }])
    board.threadGave(cell)
    expect(board.readThreads()).toMatchObject([{ jobs: 0 }])
  })

  it('a dead thread’s jobs are not inherited by its successor', () => {
    const { board } = testBoard()
    board.threadTook(board.claimThread(QUEUE, 11))
    board.freeThread(11)
    expect(board.readThreads()).toEqual([])
    board.claimThread(QUEUE, 12)
    expect(board.readThreads()).toMatchObject([{ threadId: 12, jobs: 0 }])
  })
})

describe('board: jobs', () => {
  it('shows a claimed job until it is freed', () => {
    const { board, time } = testBoard()
    const thread = board.claimThread(QUEUE, 11)
    const ref = claim(board, 'j1', 2, 9)
    time.freeze(30)
    board.jobOnThread(ref, thread)
    time.freeze(5)
    const [job] = otherThread(board, time.monotonicMs).readJobs()
    expect(job).toEqual({
      cell: ref.cell,
      queue: QUEUE,
      thread,
      fence: 9,
      attempt: 2,
      runningMs: 35,
      silentMs: 5,
      lockAgeMs: 35,
      id: 'j1',
      step: undefined,
      stepMs: 0,
    })
    board.freeJob(ref)
    expect(board.readJobs()).toEqual([])
  })

  it('whoever outlives the job writes into nobody else’s cell', () => {
    const { board, time } = testBoard()
    const zombie = claim(board, 'old')
    board.freeJob(zombie)
    const ref = claim(board, 'new')
    expect(ref.cell).toBe(zombie.cell)
    time.freeze(100)
    board.jobAlive(zombie)
    board.jobStep(zombie, 'ghost', board.stamp())
    board.jobOnThread(zombie, 1)
    board.jobLocked(zombie, board.stamp())
    board.abortJob(zombie, 'cancelled')
    board.freeJob(zombie)
    expect(board.readJobs()).toMatchObject([{ id: 'new', silentMs: 100, lockAgeMs: 100, step: undefined, thread: -1 }])
    expect(board.abortReason(ref)).toBeUndefined()
    expect(board.abortReason(zombie)).toBe('lost its lock')
    expect(board.threadOf(zombie)).toBe(-1)
  })

  it('freed twice, its cell is given out once', () => {
    const { board } = testBoard()
    const ref = claim(board)
    board.freeJob(ref)
    board.freeJob(ref)
    expect(claim(board, 'a').cell).not.toBe(claim(board, 'b').cell)
  })

  it('when all cells are taken there is none, and one again after the next end', () => {
    const { board } = testBoard()
    const slotsAndSpare = 2 + 8
    const refs = Array.from({ length: slotsAndSpare }, (_, index) => claim(board, `j${index}`))
    expect(board.claimJob(QUEUE, 'one more', 1, 1)).toBeUndefined()
    expect(board.readJobs()).toHaveLength(slotsAndSpare)
    for (const ref of refs.slice(0, 1)) board.freeJob(ref)
    expect(board.claimJob(QUEUE, 'one more', 1, 1)).toBeDefined()
  })

  it('names the step and since when, and forgets it when it is left', () => {
    const { board, time } = testBoard()
    const ref = claim(board)
    const entered = board.stamp()
    time.freeze(80)
    board.jobStep(ref, 'clone', entered)
    expect(board.readJobs()).toMatchObject([{ step: 'clone', stepMs: 80, silentMs: 0 }])
    board.jobStep(ref, undefined, board.stamp())
    expect(board.readJobs()).toMatchObject([{ step: undefined, stepMs: 0 }])
  })

  it('a job whose step is being written at this moment is not shown half', () => {
    const { board, time } = testBoard()
    const ref = claim(board)
    const other = otherThread(board, time.monotonicMs)
    let seen: unknown[] | undefined
    const look = () => {
      seen = other.readJobs()
      return 'x'.charCodeAt(0)
    }
    // The name is read out while it is written: that is a look in the middle of the write.
    const name = { length: 1, charCodeAt: look } as unknown as string
    board.jobStep(ref, name, board.stamp())
    expect(seen).toEqual([])
    expect(other.readJobs()).toMatchObject([{ step: 'x' }])
  })

  it('tells the job why it is to stop', () => {
    const { board } = testBoard()
    const ref = claim(board)
    expect(board.abortReason(ref)).toBeUndefined()
    board.abortJob(ref, 'cancelled')
    expect(board.abortReason(ref)).toBe('cancelled')
  })

  it('ids and steps of any length and any characters are cut at a whole character, each to its own room', () => {
    const text = fc.oneof(
      fc.string({ maxLength: 300 }),
      fc.string({ unit: 'grapheme', maxLength: 100 }),
      fc.string({ unit: 'binary', maxLength: 200 }),
    )
    fc.assert(
      fc.property(text, text, (id, step) => {
        const { board } = testBoard()
        const ref = claim(board, id)
        board.jobStep(ref, step, board.stamp())
        const [job] = board.readJobs()
        expect(job?.id).toBe(cut(id, 160))
        expect(job?.step ?? '').toBe(cut(step, 96))
      }),
    )
  })
})

/** The longest run of whole characters that fits. */
function cut(text: string, bytes: number): string {
  let kept = ''
  // Half a surrogate pair is no character: UTF-8 has the replacement character for it.
  for (const character of Buffer.from(text).toString()) {
    if (Buffer.byteLength(kept + character) > bytes) break
    kept += character
  }
  return kept
}
