import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SessionExecutor } from '../../../src/dispatch/session-executor.js'
import { recordOf } from '../../support/fake-sessions.js'
import { settle } from '../../support/fake-time.js'
import { GRACE_MS, sessionRunSetup } from '../../support/session-runs.js'

const TICK_MS = 25
const ADOPTED = recordOf({ job: 'a1', process: { pid: 99, startedAt: 'then' } })

function setup(concurrency = 2) {
  const stage = sessionRunSetup()
  const executor = new SessionExecutor({ ...stage.options, concurrency, tickMs: TICK_MS })
  /** One that runs. */
  const start = async (id: string, fence = 1) => {
    const task = stage.taskOf({ id, fence })
    const before = stage.calls.count('release')
    const ended = executor.run(task, `t-${id}`)
    await stage.calls.made('release', before + 1)
    await settle()
    return { task, ended, process: stage.sessions.process }
  }
  const tick = async (ms = TICK_MS) => {
    stage.time.freeze(ms)
    await vi.advanceTimersByTimeAsync(TICK_MS)
    await settle()
  }
  const ask = (what: 'beat' | 'fence', job: string, fence = 1) => executor.answer({ do: what, queue: 'mail', job, fence })
  return { ...stage, executor, start, tick, ask }
}

beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] }))
afterEach(() => vi.useRealTimers())

describe('the sessions of a queue', () => {
  it('D1: are never more than its slots; what is too much goes back, uncharged', async () => {
    const { start, executor, taskOf, calls } = setup(2)
    const one = await start('j1')
    await start('j2')
    expect(await executor.run(taskOf({ id: 'j3' }), 't')).toEqual({
      ok: 'lost',
      loss: { kind: 'handed_back', reason: 'no_slot' },
    })
    expect(calls.count('spawn')).toBe(2)
    one.process.exit(0)
    await one.ended
    await start('j4')
    expect(calls.count('spawn')).toBe(3)
  })

  it('have one timer, and none once all have ended', async () => {
    const { start } = setup()
    const [one, two] = [await start('j1'), await start('j2')]
    one.process.exit(0)
    await one.ended
    expect(vi.getTimerCount()).toBe(1)
    two.process.exit(0)
    await two.ended
    expect(vi.getTimerCount()).toBe(0)
  })

  it('are told what the board says: TERM, and KILL after the grace', async () => {
    const { start, board, tick, calls } = setup()
    const { task } = await start('j1')
    await start('j2')
    board.abortJob(task, 'cancelled')
    await tick()
    expect(calls.list.slice(-1)).not.toEqual(['KILL'])
    await tick(GRACE_MS)
    expect(calls.list.filter((call) => call === 'TERM' || call === 'KILL')).toEqual(['TERM', 'KILL'])
  })

  it('are ended by an order for their very claim, and no other', async () => {
    const { start, executor, calls } = setup()
    const { task } = await start('j1')
    executor.kill({ cell: task.cell, claim: task.claim + 1 }, 'silent')
    expect(calls.list).not.toContain('TERM')
    executor.kill(task, 'silent')
    expect(calls.list).toContain('TERM')
  })

  it('name their own grace to whoever cancels', () => {
    expect(setup().executor.graceMs).toBe(GRACE_MS)
  })
})

describe('sessions at the end of their supervisor', () => {
  it('D13: are ended at once and waited for; none begins any more', async () => {
    const { start, executor, taskOf, calls, sessions } = setup()
    const { ended } = await start('j1')
    const stopped = executor.stop()
    await calls.made('KILL')
    sessions.process.exit(137)
    await stopped
    expect(await ended).toMatchObject({ ok: 'lost', loss: { ordered: true } })
    expect(await executor.run(taskOf({ id: 'j2' }), 't')).toEqual({
      ok: 'lost',
      loss: { kind: 'handed_back', reason: 'shutdown' },
    })
  })

  it('are not waited for without end', async () => {
    const { start, executor, calls } = setup()
    await start('j1')
    const stopped = executor.stop()
    await calls.made('KILL')
    await vi.advanceTimersByTimeAsync(5000)
    await stopped
  })
})

describe('what a session asks of its supervisor', () => {
  it('its beat counts while it runs, and its job is its own while the claim stands', async () => {
    const { start, ask, board } = setup()
    await start('j1', 2)
    expect([await ask('beat', 'j1', 2), await ask('fence', 'j1', 2)]).toEqual([{ ok: true }, { ok: true }])
    expect(board.readJobs()).toMatchObject([{ silentMs: 0 }])
  })

  it('D5: is refused to another fence and to an unknown job, without asking Redis', async () => {
    const { start, ask, calls } = setup()
    await start('j1', 2)
    for (const answer of [await ask('fence', 'j1', 1), await ask('beat', 'j1', 1), await ask('fence', 'j2', 2)])
      expect(answer).toEqual({ ok: false, error: expect.stringContaining("is not this session's any more") })
    expect(calls.count('holds')).toBe(0)
  })

  it('D5: is refused to one that was fenced off, or lost its lock', async () => {
    const { start, ask, records, board } = setup()
    const { task } = await start('j1', 2)
    records.fences.set('j1', 3)
    const fenced = await ask('fence', 'j1', 2)
    expect(fenced).toMatchObject({ ok: false })
    expect(fenced).not.toHaveProperty('unsure')
    board.abortJob(task, 'lost its lock')
    expect(await ask('beat', 'j1', 2)).toMatchObject({ ok: false })
  })

  it('cannot be said while Redis is silent or fails', async () => {
    const { start, ask, calls } = setup()
    await start('j1')
    calls.hang('holds')
    const answer = ask('fence', 'j1')
    await calls.made('holds')
    await vi.advanceTimersByTimeAsync(2000)
    expect(await answer).toMatchObject({ ok: false, unsure: true })
    const failing = setup()
    await failing.start('j1')
    failing.calls.fail('holds')
    expect(await failing.ask('fence', 'j1')).toMatchObject({ ok: false, unsure: true })
  })
})

describe('sessions that were adopted', () => {
  it('D5: are known from their adoption on, and come on top of the slots', async () => {
    const { executor, start, taskOf, calls } = setup(1)
    await start('j1')
    executor.expect(ADOPTED)
    expect(executor.knows(ADOPTED)).toBe(true)
    void executor.run(taskOf({ id: 'a1' }), 't')
    await calls.made('attach')
    expect(executor.knows(ADOPTED)).toBe(true)
    expect(calls.count('spawn')).toBe(1)
  })

  it('are not taken for the session of a later claim', async () => {
    const { executor, start, calls } = setup()
    executor.expect(ADOPTED)
    await start('a1', 2)
    expect(calls.list).not.toContain('attach')
    expect(executor.knows(ADOPTED)).toBe(false)
  })

  it('whose attempt never came are ghosts again', () => {
    const { executor } = setup()
    executor.expect(ADOPTED)
    const later = { ...ADOPTED, fence: 2 }
    executor.expect(later)
    executor.forget(ADOPTED)
    expect(executor.knows(later)).toBe(true)
    executor.forget(later)
    expect(executor.knows(later)).toBe(false)
  })

  it('are known while they run, under their fence only', async () => {
    const { executor, start } = setup()
    const { ended, process } = await start('j1', 2)
    expect([executor.knows(recordOf({ fence: 2 })), executor.knows(recordOf({ fence: 1 }))]).toEqual([true, false])
    process.exit(0)
    await ended
    expect(executor.knows(recordOf({ fence: 2 }))).toBe(false)
  })
})
