import { EventEmitter } from 'node:events'
import { describe, expect, it } from 'vitest'
import { BeatBoard } from '../../../src/heartbeat/beat-board.js'
import { findCurrentJobs } from '../../../src/kernel/current-job.js'
import type { ProcessedJob, WorkerInternals } from '../../../src/watch/bullmq-internals.js'
import type { Place } from '../../../src/watch/membership.js'
import { WatchedJobs } from '../../../src/watch/watched-jobs.js'
import { deferred } from '../../support/deferred.js'
import { settle } from '../../support/fake-time.js'

function setup(slots: number) {
  const board = BeatBoard.create({ queues: [{ name: 'mail', threads: 0, slots }], loops: [] }, () => 0)
  const worker = Object.assign(new EventEmitter(), {
    name: 'mail',
    callProcessJob: (_job: ProcessedJob, process: () => Promise<unknown>) => process(),
  })
  const jobs = new WatchedJobs(worker as unknown as WorkerInternals, { board, queueIndex: 0 } as Place)
  jobs.see({})
  return {
    jobs,
    start: (id: string, process: () => Promise<unknown> = () => new Promise(() => undefined)) =>
      worker.callProcessJob({ id, name: 'send', data: {}, attemptsMade: 0 }, process),
    cells: () => board.readJobs().map(({ id }) => id),
  }
}

const current = findCurrentJobs()
const ids = (count: number) => Array.from({ length: count }, (_, index) => `j${index}`)

describe('the jobs of a watched worker', () => {
  it('are seen when they start, and of very many the rest at the tick', () => {
    const { jobs, start, cells } = setup(30)
    for (const id of ids(30)) void start(id)
    expect(cells()).toHaveLength(20)
    jobs.look()
    expect(cells().sort()).toEqual(ids(30).sort())
  })

  it('are seen at their first word, however many there are', async () => {
    const { start, cells } = setup(30)
    for (const id of ids(28)) void start(id)
    const said = deferred()
    const says = (word: () => unknown) => async () => {
      await said.promise
      word()
      await new Promise(() => undefined)
    }
    void start(
      'beats',
      says(() => current.getStore()?.heartbeat()),
    )
    void start(
      'steps',
      says(() => current.getStore()?.step('wait', () => new Promise(() => undefined))),
    )
    expect(cells()).toHaveLength(20)
    said.resolve()
    await settle()
    expect(cells().slice(20)).toEqual(['beats', 'steps'])
  })

  it('have no cell any more once they are over, whatever is still said for them', async () => {
    const { start, cells } = setup(30)
    for (const id of ids(20)) void start(id)
    const later = await start('over', async () => {
      const mine = current.getStore()
      return () => {
        mine?.heartbeat()
        return mine?.step('after', () => 7)
      }
    })
    expect(await (later as () => unknown)()).toBe(7)
    expect(cells()).not.toContain('over')
  })
})
