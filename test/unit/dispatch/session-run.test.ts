import { afterEach, describe, expect, it, vi } from 'vitest'
import { SessionRun } from '../../../src/dispatch/session-run.js'
import type { ThreadTask } from '../../../src/dispatch/thread-protocol.js'
import { ALONE, LAUNCHING } from '../../../src/heartbeat/board-layout.js'
import { LaunchError, type SessionRecord } from '../../../src/launch/session.js'
import { recordOf } from '../../support/fake-sessions.js'
import { settle } from '../../support/fake-time.js'
import { GRACE_MS, LAUNCH_TIMEOUT_MS, sessionRunSetup } from '../../support/session-runs.js'

const FOLDER = '/run/j1-1'
const LOST_LOCK = 'session ended: lost its lock'

interface Stage {
  readonly config?: Parameters<typeof sessionRunSetup>[0]
  readonly more?: Parameters<typeof sessionRunSetup>[1]
  readonly task?: Partial<ThreadTask>
  readonly adopted?: SessionRecord
}

function setup({ config, more, task: changes, adopted }: Stage = {}) {
  const stage = sessionRunSetup(config, more)
  const { board, time, calls } = stage
  const task = stage.taskOf(changes)
  const begin = () => new SessionRun(task, 't1', stage.options, adopted)
  /** One that runs, and has shown no life yet. */
  const begun = async () => {
    const run = begin()
    await calls.made(adopted ? 'attach' : 'release')
    await settle()
    return run
  }
  const cell = () => board.readJobs().find(({ id }) => id === task.id)
  /** So long passes, and then it is looked for signs of life. */
  const look = async (run: SessionRun, afterMs: number) => {
    time.freeze(afterMs)
    run.passOnAbort()
    run.look()
    await settle()
  }
  return { ...stage, task, begin, begun, cell, look }
}

afterEach(() => vi.useRealTimers())

describe('the end of a session', () => {
  it('with exit code 0 is a success, and says what is left on its branch', async () => {
    const { begun, sessions, workspaces } = setup()
    const run = await begun()
    workspaces.left = { branch: 'unstuck/mail/j1', commits: 2 }
    sessions.process.exit(0)
    expect(await run.done).toEqual({ ok: true, json: '{"exitCode":0,"branch":"unstuck/mail/j1","commits":2}' })
  })

  it.each<readonly [string, number, object]>([
    ['3 may pass next time', 3, { ok: false, error: { permanent: false, message: expect.stringContaining('exit code 3') } }],
    ['named as permanent is one', 4, { ok: false, error: { permanent: true } }],
    ['137 is a death', 137, { ok: 'lost', loss: { kind: 'lost', ordered: false } }],
    ['134 named as permanent is permanent, and no death', 134, { ok: false, error: { permanent: true } }],
  ])('with exit code %s', async (_, code, ended) => {
    const { begun, sessions } = setup({ config: { permanentExitCodes: [4, 134] } })
    const run = await begun()
    sessions.process.exit(code)
    expect(await run.done).toMatchObject(ended)
  })

  it.each<readonly [boolean, string]>([
    [false, 'lost'],
    [true, 'alone'],
  ])('D8: without an exit code is a loss (a suspect: %s)', async (alone, kind) => {
    const { begun, sessions } = setup({ task: alone ? { alone } : {} })
    const run = await begun()
    sessions.process.lose('its shim is gone')
    expect(await run.done).toEqual({ ok: 'lost', loss: { kind, message: 'its shim is gone', ordered: false } })
  })

  it('tells the last line that it put out, and no more of it', async () => {
    const { begun, sessions } = setup()
    const run = await begun()
    sessions.output = `first\n  no such file: ${'x'.repeat(300)}  \n\n`
    sessions.process.exit(1)
    const ended = await run.done
    const message = ended.ok === false ? ended.error.message : ''
    expect(message).toMatch(/^the session ended with exit code 1: no such file: x+$/)
    expect(message.length).toBeLessThan(250)
  })

  it('cleans up in order, the record last, and takes its link off', async () => {
    const { begun, sessions, calls, links } = setup()
    const run = await begun()
    const before = calls.list.length
    sessions.process.exit(0)
    await run.done
    expect(calls.list.slice(before)).toEqual(['tail', `unmake ${FOLDER}/workspace`, `remove ${FOLDER}`, 'close j1/1'])
    expect(links).toEqual([`link ${FOLDER}`, `unlink ${FOLDER}`])
  })

  it.each([
    ['never', 0, false],
    ['never', 1, false],
    ['failed', 0, false],
    ['failed', 1, true],
    ['always', 0, true],
    ['always', 1, true],
  ] as const)('keeps its folder (%s, exit code %d): %s', async (keep, code, kept) => {
    const { begun, sessions, calls } = setup({ config: { keep } })
    const run = await begun()
    sessions.process.exit(code)
    await run.done
    expect(calls.list).toContain(kept ? `unmake ${FOLDER}/workspace (kept)` : `unmake ${FOLDER}/workspace`)
    expect([calls.count('remove'), calls.count('close')]).toEqual([kept ? 0 : 1, 1])
  })

  it.each(['unmake', 'remove', 'close'])('D3: a clean-up that fails (%s) is told, and the record stays', async (call) => {
    const { begun, sessions, calls, told, records } = setup()
    const run = await begun()
    calls.fail(call)
    sessions.process.exit(0)
    expect(await run.done).toMatchObject({ ok: true })
    expect(told).toEqual([expect.stringContaining(`${call} failed`)])
    expect(records.stored.get('j1')).toBeDefined()
  })

  it('is its end also when its output cannot be read or kept', async () => {
    const { begun, sessions, calls, told } = setup()
    const run = await begun()
    calls.fail('tail')
    sessions.process.exit(0)
    expect(await run.done).toMatchObject({ ok: true })
    expect(told).toEqual(['error: tail failed'])
    expect(calls.count('close')).toBe(1)
  })
})

describe('the launch of a session', () => {
  it('gives the program its environment with the way to its supervisor, and its limits', async () => {
    const { begun, sessions } = setup({ more: { survives: true } })
    await begun()
    expect(sessions.specs).toMatchObject([
      {
        folder: FOLDER,
        cwd: `${FOLDER}/workspace`,
        command: '/bin/agent',
        env: { A: '1', UNSTUCK_SOCKET: `/sock${FOLDER}` },
        survives: true,
        lostGraceMs: 100,
      },
    ])
  })

  it('D2: refused and undone it is a failure with its step, told once, and leaves no link', async () => {
    const { begin, calls, told, links } = setup()
    calls.fail('make', new LaunchError('no space left'))
    const ended = await begin().done
    expect(ended).toMatchObject({
      ok: false,
      error: { permanent: false, message: 'launch refused at workspace: no space left' },
    })
    expect(told).toEqual(['rolled back at workspace: no space left'])
    expect(links).toEqual([`link ${FOLDER}`, `unlink ${FOLDER}`])
  })

  it('D2: a plan that cannot work is permanent, and touches nothing', async () => {
    const plan = () => {
      throw new LaunchError('args: {to} is missing', { permanent: true })
    }
    const { begin, calls, told } = setup({ more: { plan } })
    expect(await begin().done).toMatchObject({ ok: false, error: { permanent: true } })
    expect([calls.list, told]).toEqual([[], ['rolled back at plan: args: {to} is missing']])
  })

  it('D5: that takes too long is aborted and undone', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { begin, calls, told } = setup()
    calls.hang('make')
    const run = begin()
    await calls.made('make')
    await vi.advanceTimersByTimeAsync(LAUNCH_TIMEOUT_MS)
    expect(await run.done).toMatchObject({ ok: false, error: { permanent: false } })
    expect(told).toEqual(['rolled back at workspace: not launched within 60 s'])
    expect(calls.list.slice(-2)).toEqual([`remove ${FOLDER}`, 'close j1/1'])
  })

  it('D3: ended by somebody is no failure of the job', async () => {
    const { begin, calls, board, task } = setup()
    calls.hang('make')
    const run = begin()
    await calls.made('make')
    board.abortJob(task, 'cancelled')
    run.passOnAbort()
    expect(await run.done).toMatchObject({ ok: 'lost', loss: { ordered: true, message: 'session ended: cancelled' } })
    expect(calls.count('close')).toBe(1)
  })

  it('an undo that fails is told', async () => {
    const { begin, calls, told } = setup()
    calls.fail('spawn')
    calls.fail('unmake')
    await begin().done
    expect(told).toEqual(['left behind workspace: unmake failed', 'rolled back at spawn: spawn failed'])
  })

  it('ended too late to stop it, the session is asked to end, and ended after a whole grace', async () => {
    const { begin, calls, sessions, look } = setup()
    const updating = calls.hang('update')
    const run = begin()
    await calls.made('update')
    run.kill('cancelled')
    await look(run, GRACE_MS)
    updating.resolve()
    await calls.made('TERM')
    expect(calls.list).not.toContain('KILL')
    await look(run, GRACE_MS - 1)
    expect(calls.list).not.toContain('KILL')
    await look(run, 1)
    expect(calls.list).toContain('KILL')
    sessions.process.exit(143)
    expect(await run.done).toMatchObject({ ok: 'lost', loss: { ordered: true } })
  })

  it('during a shutdown that cannot wait, the session is ended as soon as it is there', async () => {
    const { begin, calls } = setup()
    const updating = calls.hang('update')
    const run = begin()
    await calls.made('update')
    run.killNow('the supervisor is shutting down')
    updating.resolve()
    await calls.made('KILL')
    expect(calls.list).not.toContain('TERM')
  })
})

describe('signs of life of a session', () => {
  it('D12: until the first it is launching, in the step of its launch', async () => {
    const { begin, begun, calls, cell, look, sessions } = setup()
    const making = calls.hang('make')
    begin()
    await calls.made('make')
    expect(cell()).toMatchObject({ thread: LAUNCHING, step: 'launch workspace' })
    making.resolve()
    const run = await begun()
    expect(cell()).toMatchObject({ thread: LAUNCHING, step: 'launch sign_of_life' })
    await look(run, 50)
    expect(cell()).toMatchObject({ thread: LAUNCHING })
    sessions.seen = { output: '1', touched: '' }
    await look(run, 100)
    expect(cell()).toMatchObject({ thread: ALONE, step: undefined, silentMs: 0 })
  })

  it('are output and touches of its file, each once', async () => {
    const { begun, cell, look, sessions } = setup()
    const run = await begun()
    sessions.seen = { output: '1', touched: '' }
    await look(run, 50)
    expect(cell()?.silentMs).toBe(0)
    await look(run, 100)
    expect(cell()?.silentMs).toBe(100)
    sessions.seen = { output: '1', touched: '9' }
    await look(run, 200)
    expect(cell()?.silentMs).toBe(0)
    await look(run, 400)
    expect(cell()?.silentMs).toBe(400)
  })

  it('are its beats, and its end', async () => {
    const { begun, cell, sessions, calls, time } = setup()
    const run = await begun()
    run.beat(undefined)
    expect(cell()).toMatchObject({ thread: ALONE, step: undefined })
    time.freeze(100)
    run.beat(undefined)
    expect(cell()?.silentMs).toBe(0)
    calls.hang('unmake')
    time.freeze(100)
    sessions.process.exit(0)
    await calls.made('unmake')
    expect(cell()).toMatchObject({ thread: ALONE, step: 'clean up', silentMs: 0 })
  })

  it('its end is one also when nothing came before', async () => {
    const { begun, cell, sessions, calls } = setup()
    await begun()
    calls.hang('unmake')
    sessions.process.exit(0)
    await calls.made('unmake')
    expect(cell()).toMatchObject({ thread: ALONE })
  })

  it('a beat before its launch is over ends the launch on the board for good', async () => {
    const { begin, calls, cell } = setup()
    const updating = calls.hang('update')
    const run = begin()
    await calls.made('update')
    run.beat(undefined)
    updating.resolve()
    await calls.made('release')
    await settle()
    expect(cell()).toMatchObject({ thread: ALONE, step: undefined })
  })

  it('D11: once it has named its progress only other progress counts', async () => {
    const { begun, cell, look, sessions, time } = setup()
    const run = await begun()
    run.beat('step 1')
    time.freeze(100)
    run.beat('step 1')
    run.beat(undefined)
    sessions.seen = { output: '1', touched: '1' }
    await look(run, 100)
    expect(cell()?.silentMs).toBe(200)
    run.beat('step 2')
    expect(cell()?.silentMs).toBe(0)
  })

  it('is looked for often at first, then as often as said', async () => {
    const { begun, look, calls } = setup()
    const run = await begun()
    const looks: number[] = []
    for (let at = 0; at < 12_000; at += 50) {
      const before = calls.count('signs')
      await look(run, 50)
      if (calls.count('signs') > before) looks.push(at + 50)
    }
    expect(looks).toEqual([50, 150, 350, 750, 1550, 3150, 6350, 11_350])
  })

  it('that cannot be looked for are told, and looked for again', async () => {
    const { begun, look, calls, told, cell, sessions } = setup()
    const run = await begun()
    calls.fail('signs')
    await look(run, 50)
    expect(told).toEqual(['error: signs failed'])
    calls.heal('signs')
    sessions.seen = { output: '1', touched: '' }
    await look(run, 100)
    expect(cell()).toMatchObject({ thread: ALONE })
  })

  it('are seen also while Redis is silent', async () => {
    const { begun, look, calls, cell, sessions } = setup()
    const run = await begun()
    calls.hang('output')
    sessions.seen = { output: '1', touched: '' }
    sessions.output = 'one\n'
    await look(run, 50)
    await calls.made('output')
    sessions.seen = { output: '2', touched: '' }
    await look(run, 6000)
    expect(cell()?.silentMs).toBe(0)
    expect(calls.count('output')).toBe(1)
  })
})

describe('the output of a session', () => {
  it('is kept every 5 s at most, the last of it also when no other follows', async () => {
    const { begun, look, sessions, records } = setup()
    const run = await begun()
    const put = async (text: string, afterMs: number) => {
      sessions.seen = { output: text, touched: '' }
      sessions.output = text
      await look(run, afterMs)
    }
    await put('one', 50)
    await put('two', 4000)
    expect(records.outputs).toEqual(['one'])
    await look(run, 5000)
    expect(records.outputs).toEqual(['one', 'two'])
    await look(run, 9000)
    expect(records.outputs).toEqual(['one', 'two'])
  })

  it('is kept at the end, if it has changed', async () => {
    const { begun, look, sessions, records } = setup()
    const run = await begun()
    sessions.seen = { output: '1', touched: '' }
    sessions.output = 'one'
    await look(run, 50)
    sessions.output = 'one\ntwo'
    sessions.process.exit(0)
    await run.done
    expect(records.outputs).toEqual(['one', 'one\ntwo'])
  })

  it('that could not be kept is told, and kept later', async () => {
    const { begun, look, sessions, records, calls, told } = setup()
    const run = await begun()
    calls.fail('output')
    sessions.seen = { output: '1', touched: '' }
    sessions.output = 'one'
    await look(run, 50)
    expect(told).toEqual(['error: output failed'])
    calls.heal('output')
    await look(run, 5000)
    expect(records.outputs).toEqual(['one'])
  })
})

describe('a session that is to end', () => {
  it('cancelled is asked to end, and ended after the grace', async () => {
    const { begun, look, board, task, calls, sessions } = setup()
    const run = await begun()
    board.abortJob(task, 'cancelled')
    await look(run, 25)
    await look(run, GRACE_MS - 1)
    expect(calls.list.filter((call) => call === 'TERM' || call === 'KILL')).toEqual(['TERM'])
    await look(run, 1)
    await look(run, 5000)
    expect(calls.list.filter((call) => call === 'TERM' || call === 'KILL')).toEqual(['TERM', 'KILL'])
    sessions.process.exit(137)
    expect(await run.done).toMatchObject({ ok: 'lost', loss: { ordered: true, message: 'session ended: cancelled' } })
  })

  it('ordered to is asked to end first; asked again it is ended at once', async () => {
    const { begun, calls, look } = setup()
    const run = await begun()
    run.kill('job_silent for 300 s')
    expect(calls.list.slice(-1)).toEqual(['TERM'])
    await look(run, 10)
    run.kill('cancelled')
    expect(calls.list.filter((call) => call === 'TERM' || call === 'KILL')).toEqual(['TERM', 'KILL'])
  })

  it('D9: is one that lost its lock, and one whose job is not on the board any more', async () => {
    for (const how of ['abort', 'free'] as const) {
      const { begun, look, board, task, calls, sessions } = setup()
      const run = await begun()
      if (how === 'abort') board.abortJob(task, 'lost its lock')
      else board.freeJob(task)
      await look(run, 25)
      expect(calls.list).toContain('TERM')
      sessions.process.exit(0)
      expect(await run.done).toMatchObject({ ok: 'lost', loss: { ordered: true, message: LOST_LOCK } })
    }
  })

  it('D11: ended by itself before the word came it is what it was', async () => {
    const { begun, calls, sessions, board, task, look } = setup()
    const run = await begun()
    const unmaking = calls.hang('unmake')
    sessions.process.exit(0)
    await calls.made('unmake')
    board.abortJob(task, 'the supervisor is shutting down')
    await look(run, 25)
    run.killNow('the supervisor is shutting down')
    unmaking.resolve()
    expect(await run.done).toMatchObject({ ok: true })
    expect(calls.list).not.toContain('TERM')
  })
})

describe('a session that another supervisor may have adopted', () => {
  const surviving = { more: { survives: true } }
  const of = (stage: ReturnType<typeof setup>) => stage.records.stored.get('j1') ?? recordOf()
  const REMOVALS = ['unmake', 'remove', 'close']

  it.each(['it loses its lock', 'it ends'])('D5: is let go of when %s: nothing of it is ended or removed', async (when) => {
    const stage = setup(surviving)
    const { begun, look, board, task, sessions, calls, links, records } = stage
    const run = await begun()
    records.stored.set('j1', { ...of(stage), owner: 'beta#ba9876543210' })
    if (when === 'it ends') sessions.process.exit(0)
    else {
      board.abortJob(task, 'lost its lock')
      await look(run, 25)
    }
    expect(await run.done).toMatchObject({ ok: 'lost', loss: { ordered: true, message: expect.stringContaining('adopted') } })
    expect(calls.list).not.toContain('TERM')
    expect(REMOVALS.map((name) => calls.count(name))).toEqual([0, 0, 0])
    expect(links).toEqual([`link ${FOLDER}`])
  })

  it('D5: is cleaned up only once the store has said that it is not', async () => {
    const { begun, sessions, calls, told } = setup(surviving)
    calls.fail('taken', new Error('no answer'))
    const run = await begun()
    vi.useFakeTimers({ toFake: ['setTimeout'] })
    sessions.process.exit(0)
    await calls.made('taken')
    await settle()
    expect([told, calls.count('unmake')]).toEqual([['error: no answer'], 0])
    calls.heal('taken')
    await vi.advanceTimersByTimeAsync(250)
    expect(await run.done).toMatchObject({ ok: true })
    expect(REMOVALS.map((name) => calls.count(name))).toEqual([1, 1, 1])
  })

  it('D5: is left for whoever finds it when nobody can wait for the store', async () => {
    const { begun, sessions, calls } = setup(surviving)
    calls.fail('taken', new Error('no answer'))
    const run = await begun()
    run.killNow('the supervisor is shutting down')
    sessions.process.exit(137)
    expect(await run.done).toMatchObject({ ok: 'lost', loss: { ordered: true } })
    expect(REMOVALS.map((name) => calls.count(name))).toEqual([0, 0, 0])
  })

  it('D5: goes with its record: that of a later session is another matter', async () => {
    const stage = setup(surviving)
    const run = await stage.begun()
    stage.records.stored.set('j1', { ...of(stage), fence: 2, owner: 'beta#ba9876543210' })
    stage.sessions.process.exit(0)
    await run.done
    expect(stage.calls.count('remove')).toBe(1)
  })
})

describe('a session that was adopted', () => {
  const adopted = recordOf({ process: { pid: 99, startedAt: 'then' } })

  it('D5: goes on as a running one, with its link led here, and ends like any other', async () => {
    const { begun, cell, sessions, calls, links, records } = setup({ adopted })
    records.stored.set('j1', adopted)
    const run = await begun()
    expect(cell()).toMatchObject({ thread: ALONE, step: undefined })
    expect([calls.list, links]).toEqual([['attach'], [`link ${FOLDER}`]])
    sessions.process.exit(0)
    expect(await run.done).toMatchObject({ ok: true })
    expect(records.stored.size).toBe(0)
  })

  it('that cannot be led here works on, and that is told', async () => {
    const link = () => Promise.reject(new Error('no room for a link'))
    const { begun, sessions, told } = setup({ adopted, more: { link } })
    const run = await begun()
    expect(told).toEqual(['error: no room for a link'])
    sessions.process.exit(0)
    expect(await run.done).toMatchObject({ ok: true })
  })

  it('of which no process is known is not run again', async () => {
    const { begin, calls } = setup({ adopted: recordOf() })
    expect(await begin().done).toMatchObject({ ok: 'lost', loss: { ordered: true } })
    expect(calls.list).toEqual([])
  })
})
