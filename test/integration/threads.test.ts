/** Jobs in real piscina threads, and how their loss is told. Needs `dist/`. */
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { PiscinaExecutor } from '../../src/dispatch/piscina-executor.js'
import type { ThreadLogLine, ThreadTask } from '../../src/dispatch/thread-protocol.js'
import { QUEUE, testBoard } from '../support/boards.js'

const HANDLER = fileURLToPath(new URL('../fixtures/suspect.mjs', import.meta.url))
const THREAD = new URL('../../dist/processes/task-thread.js', import.meta.url)

function setup({ jobsPerThread = 1 } = {}) {
  const { board } = testBoard()
  let heard: (line: ThreadLogLine) => void = () => undefined
  const executor = new PiscinaExecutor({
    board,
    queueIndex: QUEUE,
    handler: HANDLER,
    threads: 1,
    jobsPerThread,
    tickMs: 25,
    threadModule: THREAD,
    onLog: (line) => heard(line),
    onError: () => undefined,
  })
  onTestFinished(() => executor.stop())
  const run = (data: object, id = 'j1') => {
    const ref = board.claimJob(QUEUE, id, 1, 1)
    if (!ref) throw new Error('no cell')
    const task: ThreadTask = { ...ref, id, name: 'send', queue: 'mail', data, group: undefined, attempt: 1, fence: 1 }
    return { task, end: executor.run(task) }
  }
  const logged = () =>
    new Promise<ThreadLogLine>((resolve) => {
      heard = resolve
    })
  return { executor, run, logged }
}

describe('a lost thread', () => {
  it('that the handler ended speaks against the job', async () => {
    expect(await setup().run({ do: 'exit', code: 3 }).end).toEqual({
      ok: 'lost',
      loss: { kind: 'lost', message: 'the thread exited with code 3 (process.exit in the handler?)', ordered: false },
    })
  })

  it.each([1, 2])('that we ended does not, with %i jobs a thread', async (jobsPerThread) => {
    const { executor, run, logged } = setup({ jobsPerThread })
    const line = logged()
    const { task, end } = run({ do: 'wait' })
    await line
    executor.kill(task, 'job_silent for 9 s')
    expect(await end).toEqual({
      ok: 'lost',
      loss: { kind: 'lost', message: 'thread terminated: job_silent for 9 s', ordered: true },
    })
  })

  it('that we ended because of another job does not either', async () => {
    const { executor, run, logged } = setup({ jobsPerThread: 2 })
    let line = logged()
    const culprit = run({ do: 'wait' }, 'culprit')
    await line
    line = logged()
    const neighbour = run({ do: 'wait' }, 'neighbour')
    await line
    executor.kill(culprit.task, 'job_silent for 9 s')
    expect(await neighbour.end).toEqual({ ok: 'lost', loss: { kind: 'neighbour' } })
    expect(await culprit.end).toMatchObject({ loss: { kind: 'lost', ordered: true } })
  })

  it('that ended with its supervisor does not either', async () => {
    const { executor, run, logged } = setup()
    const line = logged()
    const { end } = run({ do: 'wait' })
    await line
    await executor.stop()
    expect(await end).toEqual({
      ok: 'lost',
      loss: { kind: 'lost', message: 'thread terminated: the supervisor is shutting down', ordered: true },
    })
  })
})
