import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { type LaunchOrder, launch } from '../../../src/launch/launch.js'
import { LaunchError } from '../../../src/launch/session.js'
import { fakePorts, recordOf } from '../../support/fake-sessions.js'

const FOLDER = '/run/j1-2'
const SPACE = `${FOLDER}/workspace`

function setup() {
  const ports = fakePorts()
  const stopping = new AbortController()
  const steps: string[] = []
  const undoFailed: string[] = []
  const record = recordOf({ fence: 2 })
  const order: LaunchOrder = {
    claim: { id: 'j1', token: 't2', fence: 2 },
    record,
    spec: {
      folder: FOLDER,
      cwd: SPACE,
      command: '/bin/agent',
      args: [],
      env: {},
      input: 'null',
      logBytes: 4096,
      lostGraceMs: 100,
      survives: false,
    },
    graceMs: 500,
    signal: stopping.signal,
    onStep: (step) => steps.push(step),
    onUndoFailed: (step) => undoFailed.push(step),
  }
  return { ...ports, stopping, steps, undoFailed, order, record, run: () => launch(order, ports) }
}

/** All undos of a launch that had come so far, the record last. */
const UNDOS = {
  fence: [`remove ${FOLDER}`, 'close j1/2'],
  workspace: [`unmake ${SPACE}`, `remove ${FOLDER}`, 'close j1/2'],
  spawn: ['end 4000 within 500', `unmake ${SPACE}`, `remove ${FOLDER}`, 'close j1/2'],
}

afterEach(() => vi.useRealTimers())

describe('a launch', () => {
  it('notes the session before it makes anything, then where its process is, and tells each step in order', async () => {
    const { run, calls, steps, records, sessions, record } = setup()
    const launched = await run()
    expect(launched).toMatchObject({ kind: 'started', record: { process: { pid: 4000 } } })
    expect(calls.list).toEqual(['open', `make ${SPACE}`, 'spawn', 'update', 'release'])
    expect(steps).toEqual(['fence', 'workspace', 'spawn', 'record'])
    expect(records.stored.get('j1')).toEqual({ ...record, process: sessions.process.id })
  })

  it.each<readonly [string, string, readonly string[]]>([
    ['workspace', 'make', UNDOS.fence],
    ['spawn', 'spawn', UNDOS.workspace],
    ['record', 'update', UNDOS.spawn],
  ])('D2: a failure at %s undoes what was done before it, the last first and the record last', async (step, call, undos) => {
    const { run, calls, records } = setup()
    calls.fail(call, new LaunchError('no room', { permanent: true }))
    expect(await run()).toMatchObject({
      kind: 'refused',
      step,
      ambiguous: false,
      error: { message: 'no room', permanent: true },
    })
    const failedAt = calls.list.findIndex((name) => name.startsWith(call))
    expect(calls.list.slice(failedAt + 1)).toEqual(undos)
    expect(records.stored.size).toBe(0)
  })

  it('D2: a record that could not be written leaves nothing to undo', async () => {
    const { run, calls } = setup()
    calls.fail('open')
    expect(await run()).toMatchObject({ kind: 'refused', step: 'fence', ambiguous: false })
    expect(calls.list).toEqual(['open'])
  })

  it('D3: makes nothing for a job that another has claimed since', async () => {
    const { run, calls, records } = setup()
    records.fences.set('j1', 3)
    expect(await run()).toMatchObject({ kind: 'refused', step: 'fence', error: { permanent: false } })
    expect(calls.list).toEqual(['open'])
  })

  it('D6: ends the session first when where it runs could not be written, then undoes the rest', async () => {
    const { run, calls, records } = setup()
    calls.fail('update', new Error('Connection is closed.'))
    expect(await run()).toMatchObject({ kind: 'refused', step: 'record' })
    expect(calls.list).toEqual(['open', `make ${SPACE}`, 'spawn', 'update', ...UNDOS.spawn])
    expect(records.stored.size).toBe(0)
  })

  it('D6: does not let a session live whose job was taken while it was started', async () => {
    const { run, calls, records } = setup()
    const spawning = calls.hang('spawn')
    const launched = run()
    await calls.made('spawn')
    records.fences.set('j1', 3)
    spawning.resolve()
    expect(await launched).toMatchObject({ kind: 'refused', step: 'record', ambiguous: false })
    expect(calls.list.slice(-4)).toEqual(UNDOS.spawn)
    expect(calls.list).not.toContain('release')
  })

  it.each(['end', 'unmake', 'remove'])(
    'D3: an undo that fails (%s) is told, the others are done, and the record stays',
    async (undo) => {
      const { run, calls, undoFailed, records } = setup()
      calls.fail('update')
      calls.fail(undo)
      expect(await run()).toMatchObject({ kind: 'refused', step: 'record', ambiguous: true })
      expect(undoFailed).toHaveLength(1)
      expect(calls.list.slice(4)).toEqual(UNDOS.spawn.slice(0, -1))
      expect(records.stored.get('j1')).toBeDefined()
    },
  )

  it('D3: a record that could not be removed is told, and is ambiguous too', async () => {
    const { run, calls, undoFailed } = setup()
    calls.fail('spawn')
    calls.fail('close')
    expect(await run()).toMatchObject({ kind: 'refused', step: 'spawn', ambiguous: true })
    expect(undoFailed).toEqual(['fence'])
  })

  it('D4: gives up on a store that does not answer', async () => {
    vi.useFakeTimers()
    const { run, calls } = setup()
    calls.hang('update')
    const launched = run()
    await vi.advanceTimersByTimeAsync(10_000)
    expect(await launched).toMatchObject({
      kind: 'refused',
      step: 'record',
      error: { message: 'Redis did not answer in 10 s' },
    })
    expect(calls.list.slice(-4)).toEqual(UNDOS.spawn)
  })
})

describe('a launch with another session of its job in the way', () => {
  it('D5: lays it to rest first, then opens its own', async () => {
    const { run, calls, records } = setup()
    records.stored.set('j1', recordOf({ process: { pid: 77, startedAt: 'x' } }))
    expect(await run()).toMatchObject({ kind: 'started' })
    const rest = ['end 77 within 500', 'unmake /run/j1-1/workspace', 'remove /run/j1-1', 'close j1/1']
    expect(calls.list.slice(0, 6)).toEqual(['open', ...rest, 'open'])
    expect(records.stored.get('j1')?.fence).toBe(2)
  })

  it('D5: looks for the process of one whose start was not written down', async () => {
    const { run, calls, records, sessions } = setup()
    records.stored.set('j1', recordOf())
    sessions.lost.set('/run/j1-1', { pid: 88, startedAt: 'x' })
    expect(await run()).toMatchObject({ kind: 'started' })
    expect(calls.list.slice(0, 3)).toEqual(['open', 'find', 'end 88 within 500'])
  })

  it('D5: makes nothing while that one cannot be ended, and leaves its record', async () => {
    const { run, calls, records } = setup()
    records.stored.set('j1', recordOf({ process: { pid: 77, startedAt: 'x' } }))
    calls.fail('end')
    expect(await run()).toMatchObject({ kind: 'refused', step: 'fence', error: { message: 'end failed' } })
    expect(calls.list).toEqual(['open', 'end 77 within 500'])
    expect(records.stored.get('j1')?.fence).toBe(1)
  })

  it('gives up when there is one again and again', async () => {
    const { order, calls, sessions, workspaces, records } = setup()
    const opens = {
      ...records,
      open: async () => recordOf(),
      close: (record: ReturnType<typeof recordOf>) => records.close(record),
    }
    const stubborn = Object.assign(Object.create(records) as typeof records, opens)
    const launched = await launch(order, { sessions, workspaces, records: stubborn })
    expect(launched).toMatchObject({
      kind: 'refused',
      step: 'fence',
      error: { message: expect.stringContaining('in the way') },
    })
    expect(calls.count('make')).toBe(0)
  })
})

describe('a launch that somebody ends', () => {
  it.each<readonly [string, string, string, readonly string[]]>([
    ['open', 'fence', 'workspace', UNDOS.fence],
    ['make', 'workspace', 'workspace', UNDOS.fence],
    ['spawn', 'spawn', 'record', UNDOS.spawn],
  ])('during %s stops at the next step and is undone', async (call, _, step, undos) => {
    const { run, calls, stopping, records } = setup()
    const hanging = calls.hang(call)
    const launched = run()
    await calls.made(call)
    stopping.abort(new LaunchError('cancelled'))
    hanging.resolve()
    expect(await launched).toMatchObject({ kind: 'refused', step, ambiguous: false, error: { message: 'cancelled' } })
    expect(calls.list.slice(-undos.length)).toEqual(undos)
    expect(records.stored.size).toBe(0)
  })

  it('before it begins does nothing', async () => {
    const { run, calls, stopping, steps } = setup()
    stopping.abort(new LaunchError('cancelled'))
    expect(await run()).toMatchObject({ kind: 'refused', step: 'fence' })
    expect([calls.list, steps]).toEqual([[], []])
  })
})

describe('the channel of launches', () => {
  it('says what is about to happen and what has happened', async () => {
    const { run, calls } = setup()
    const heard: unknown[] = []
    const listen = (message: unknown) => void heard.push(message)
    subscribe('unstuck:launch', listen)
    onTestFinished(() => void unsubscribe('unstuck:launch', listen))
    calls.fail('spawn')
    await run()
    const at = (step: string, when: string) => ({ queue: 'mail', job: 'j1', fence: 2, step, when })
    expect(heard).toEqual([
      at('fence', 'before'),
      at('fence', 'after'),
      at('workspace', 'before'),
      at('workspace', 'after'),
      at('spawn', 'before'),
    ])
  })
})
