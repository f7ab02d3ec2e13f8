import { describe, expect, it } from 'vitest'
import { Attempts, type ClaimedJob, type Executor } from '../../../src/dispatch/run-attempt.js'
import type { ThreadTask } from '../../../src/dispatch/thread-protocol.js'
import type { JobCellRef } from '../../../src/heartbeat/beat-board.js'
import { QUEUE, testBoard } from '../../support/boards.js'
import { type Deferred, deferred } from '../../support/deferred.js'
import { settle } from '../../support/fake-time.js'

type Reply = Awaited<ReturnType<Executor['run']>>

/** Threads that answer what a test says. */
class FakeExecutor implements Executor {
  readonly tasks: ThreadTask[] = []
  readonly replies: Deferred<Reply>[] = []
  readonly kills: [JobCellRef, string][] = []

  run(task: ThreadTask): Promise<Reply> {
    const reply = deferred<Reply>()
    this.tasks.push(task)
    this.replies.push(reply)
    return reply.promise
  }

  kill(ref: JobCellRef, reason: string): void {
    this.kills.push([ref, reason])
  }
}

function claimOf(changes: Partial<ClaimedJob> = {}): ClaimedJob {
  return { id: 'j1', name: 'mail', data: { to: 'x' }, group: undefined, attempt: 1, fence: 1, token: 't1', ...changes }
}

function setup() {
  const { board } = testBoard()
  const executor = new FakeExecutor()
  const attempts = new Attempts({ queue: 'mail', queueIndex: QUEUE, board, executor })
  return { board, executor, attempts }
}

describe('an attempt', () => {
  it('shows on the board from its start until it is settled, with what the thread needs in its task', async () => {
    const { attempts, executor, board } = setup()
    const run = attempts.run(claimOf({ attempt: 2, fence: 3, group: 'site-a' }))
    expect(board.readJobs()).toMatchObject([{ id: 'j1', attempt: 2, fence: 3, queue: QUEUE }])
    expect(executor.tasks).toMatchObject([
      { id: 'j1', queue: 'mail', data: { to: 'x' }, group: 'site-a', attempt: 2, fence: 3 },
    ])
    executor.replies[0]?.resolve({ ok: true, json: '{"sent":1}' })
    expect(await run).toEqual({ kind: 'success', result: { sent: 1 } })
    expect(board.readJobs()).toHaveLength(1)
    expect(attempts.get('j1')).toBeDefined()
    attempts.settled('j1')
    expect(board.readJobs()).toHaveLength(0)
    expect(attempts.list()).toEqual([])
  })

  it.each<readonly [string, Reply, object]>([
    ['success without a result', { ok: true, json: undefined }, { kind: 'success', result: undefined }],
    [
      'a failure that may pass',
      { ok: false, error: { name: 'RangeError', message: 'far', stack: 'there', permanent: false } },
      { kind: 'transient', error: { name: 'RangeError', message: 'far', stack: 'there' } },
    ],
    [
      'a permanent failure',
      { ok: false, error: { name: 'PermanentError', message: 'never', stack: '', permanent: true } },
      { kind: 'permanent', error: { name: 'PermanentError', message: 'never' } },
    ],
    [
      'a lost thread',
      { ok: 'lost', loss: { kind: 'lost', message: 'out of memory', ordered: false } },
      { kind: 'killed', error: new Error('out of memory') },
    ],
    [
      'a lost thread that we ended ourselves, which is no reason for suspicion',
      { ok: 'lost', loss: { kind: 'lost', message: 'thread terminated: job_silent for 9 s', ordered: true } },
      { kind: 'killed', error: new Error('thread terminated: job_silent for 9 s'), ordered: true },
    ],
    [
      'a lost process in which it ran alone',
      { ok: 'lost', loss: { kind: 'alone', message: 'ended with signal SIGKILL' } },
      { kind: 'killed', error: new Error('ended with signal SIGKILL'), alone: true },
    ],
    [
      'a lost thread whose culprit was another job',
      { ok: 'lost', loss: { kind: 'neighbour' } },
      { kind: 'handed_back', reason: 'thread_neighbour' },
    ],
  ])('ends as %s', async (_, reply, outcome) => {
    const { attempts, executor } = setup()
    const run = attempts.run(claimOf())
    executor.replies[0]?.resolve(reply)
    expect(await run).toMatchObject(outcome)
  })

  it('tells a suspect from the others by its task', () => {
    const { attempts, executor } = setup()
    attempts.run(claimOf()).catch(() => undefined)
    attempts.run(claimOf({ id: 'j2', alone: true })).catch(() => undefined)
    expect(executor.tasks.map((task) => 'alone' in task && task.alone)).toEqual([false, true])
  })

  it('ends once: what comes after it was handed back is ignored', async () => {
    const { attempts, executor } = setup()
    const run = attempts.run(claimOf())
    attempts.get('j1')?.handBack('shutdown')
    executor.replies[0]?.resolve({ ok: true, json: '1' })
    expect(await run).toEqual({ kind: 'handed_back', reason: 'shutdown' })
  })

  it('ends once: a hand back after its own end changes nothing', async () => {
    const { attempts, executor } = setup()
    const run = attempts.run(claimOf())
    executor.replies[0]?.resolve({ ok: true, json: '1' })
    await settle()
    attempts.get('j1')?.handBack('shutdown')
    expect(await run).toEqual({ kind: 'success', result: 1 })
  })

  it('does not end when its thread is ordered to die, but when the thread is gone', async () => {
    const { attempts, executor } = setup()
    const run = attempts.run(claimOf())
    attempts.get('j1')?.kill('job_silent for 9 s')
    expect(executor.kills).toMatchObject([
      [{ cell: executor.tasks[0]?.cell, claim: executor.tasks[0]?.claim }, 'job_silent for 9 s'],
    ])
    executor.replies[0]?.resolve({
      ok: 'lost',
      loss: { kind: 'lost', message: 'thread terminated: job_silent for 9 s', ordered: true },
    })
    expect(await run).toMatchObject({ kind: 'killed' })
  })

  it('without a place on the board is an error, and takes nothing', () => {
    const { attempts, executor } = setup()
    const ran: string[] = []
    const fill = () => {
      for (let number = 1; ; number += 1) {
        attempts.run(claimOf({ id: `j${number}` })).catch(() => undefined)
        ran.push(`j${number}`)
      }
    }
    expect(fill).toThrow(/^queue mail: no place on the board for job j\d+$/)
    expect(executor.tasks).toHaveLength(ran.length)
    expect(attempts.list()).toHaveLength(ran.length)
  })
})

describe('a job that is settled', () => {
  it('is settled only by the claim under which it runs here', () => {
    const { attempts, board } = setup()
    attempts.run(claimOf({ token: 'older' })).catch(() => undefined)
    attempts.settled('j1', 'newer')
    expect(board.readJobs()).toHaveLength(1)
    attempts.settled('j1', 'older')
    expect(board.readJobs()).toHaveLength(0)
  })

  it('may be settled twice, and may be unknown', () => {
    const { attempts, board } = setup()
    attempts.run(claimOf()).catch(() => undefined)
    attempts.settled('other')
    attempts.settled('j1')
    attempts.settled('j1')
    expect(board.readJobs()).toHaveLength(0)
  })
})

describe('a queue without attempts under way', () => {
  it('is idle at once when there are none', async () => {
    await setup().attempts.idle()
  })

  it('becomes idle when the last one is settled, not when it ends', async () => {
    const { attempts, executor } = setup()
    attempts.run(claimOf({ id: 'a' })).catch(() => undefined)
    attempts.run(claimOf({ id: 'b' })).catch(() => undefined)
    let idle = 0
    for (const waiting of [attempts.idle(), attempts.idle()]) {
      waiting.then(
        () => {
          idle += 1
        },
        () => undefined,
      )
    }
    for (const reply of executor.replies) reply.resolve({ ok: true, json: undefined })
    attempts.settled('a')
    await settle()
    expect(idle).toBe(0)
    attempts.settled('b')
    await settle()
    expect(idle).toBe(2)
  })
})
