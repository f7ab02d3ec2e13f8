import { describe, expect, it } from 'vitest'
import type { SeenBeat } from '../../../src/heartbeat/seen-beat.js'
import type { SessionRecord } from '../../../src/launch/session.js'
import { findGhosts, type GhostPorts, type GhostQueue } from '../../../src/recovery/ghosts.js'
import { beatOf, deadOf, seenOf } from '../../support/beats.js'
import { fakePorts, recordOf } from '../../support/fake-sessions.js'

const ME = { supervisor: 'alpha', incarnation: '0123456789ab' }
const FORMER = 'alpha#000000000001'
const OTHER = 'beta#000000000002'
const PROCESS = { pid: 77, startedAt: 'then' }

interface Stage {
  readonly records: readonly SessionRecord[]
  readonly queue?: Partial<GhostQueue>
  readonly beats?: readonly SeenBeat[]
  readonly judges?: boolean
}

function setup({ records: stored, queue: changes, beats = [], judges = true }: Stage) {
  const { calls, ...ports } = fakePorts()
  for (const record of stored) ports.records.stored.set(record.job, record)
  const adopted: [string, string][] = []
  const errors: string[] = []
  const queue: GhostQueue = {
    queue: 'mail',
    orphans: 'kill',
    graceMs: 500,
    keep: false,
    knows: () => false,
    adopt: ({ job }, token) => void adopted.push([job, token]),
    ...changes,
  }
  const asked: string[][] = []
  const all: GhostPorts = {
    ...ports,
    beats: async (supervisors) => {
      asked.push([...supervisors])
      return new Map(beats.map((beat) => [beat.supervisor, beat]))
    },
  }
  const find = async () => {
    const found = await findGhosts(queue, ME, judges, all, (error) =>
      errors.push(error instanceof Error ? error.message : 'odd'),
    )
    return { adopted: found.adopted.map(({ job }) => job), ended: found.ended.map(({ job }) => job) }
  }
  return { ...ports, calls, adopted, errors, asked, find }
}

const betaBeat = (changes: Partial<SeenBeat> = {}) =>
  seenOf(beatOf({ supervisor: 'beta', incarnation: '000000000002' }), changes)
const deadBeta = deadOf(beatOf({ supervisor: 'beta', incarnation: '000000000002' }))

describe('who is a ghost', () => {
  it.each([true, false])('D4: the session of a former incarnation of our own name, judging or not (%s)', async (judges) => {
    const { find, asked } = setup({ records: [recordOf({ owner: FORMER })], judges })
    expect(await find()).toEqual({ adopted: [], ended: ['j1'] })
    expect(asked).toEqual([])
  })

  it.each<readonly [string, readonly SeenBeat[]]>([
    ['silent', [deadBeta]],
    ['gone', []],
    ['said goodbye', [betaBeat({ bye: true })]],
    ['came back as another', [betaBeat({ incarnation: '000000000003' })]],
  ])('D4: the session of another supervisor that is lost: %s', async (_, beats) => {
    const { find, asked } = setup({ records: [recordOf({ owner: OTHER })], beats })
    expect((await find()).ended).toEqual(['j1'])
    expect(asked).toEqual([['beta']])
  })

  it('not that of another supervisor while nothing can be judged: it is not even asked for', async () => {
    const { find, calls, asked } = setup({ records: [recordOf({ owner: OTHER })], beats: [deadBeta], judges: false })
    expect(await find()).toEqual({ adopted: [], ended: [] })
    expect([calls.list, asked]).toEqual([['list'], []])
  })

  it('never that of another supervisor that lives', async () => {
    const { find, calls } = setup({
      records: [recordOf({ owner: OTHER, process: PROCESS })],
      beats: [betaBeat()],
      queue: { orphans: 'adopt' },
    })
    expect(await find()).toEqual({ adopted: [], ended: [] })
    expect(calls.list).toEqual(['list'])
  })

  it('D3: one of our own that does not run here: its undo failed; but none that runs here', async () => {
    const records = [recordOf({ job: 'j1' }), recordOf({ job: 'j2' })]
    const { find } = setup({ records, queue: { knows: ({ job }) => job === 'j1' } })
    expect((await find()).ended).toEqual(['j2'])
  })

  it('one whose owner has no name of ours', async () => {
    const { find } = setup({ records: [recordOf({ owner: 'someone' })], judges: false })
    expect((await find()).ended).toEqual(['j1'])
  })
})

describe('a ghost', () => {
  it('D4: is taken over, then ended with all that is left of it, its record last', async () => {
    const { find, calls, records } = setup({ records: [recordOf({ owner: FORMER, process: PROCESS })] })
    await find()
    expect(calls.list).toEqual([
      'list',
      'takeOver j1',
      'end 77 within 500',
      'unmake /run/j1-1/workspace',
      'remove /run/j1-1',
      'close j1/1',
    ])
    expect(records.stored.size).toBe(0)
  })

  it('keeps its folder for a person where the queue says so', async () => {
    const { find, calls } = setup({ records: [recordOf({ owner: FORMER })], queue: { keep: true } })
    await find()
    expect(calls.list.slice(2)).toEqual(['find', 'unmake /run/j1-1/workspace (kept)', 'close j1/1'])
  })

  it('that another supervisor was quicker to take is left alone', async () => {
    const seen = recordOf({ owner: OTHER })
    const { find, calls, records } = setup({ records: [], beats: [deadBeta] })
    records.list = async () => [seen]
    records.stored.set('j1', { ...seen, owner: 'gamma#000000000003' })
    expect(await find()).toEqual({ adopted: [], ended: [] })
    expect(calls.list).toEqual(['takeOver j1'])
  })

  it('that cannot be ended is told and found again; the others are ended all the same', async () => {
    const records = [recordOf({ job: 'j1', owner: FORMER, process: PROCESS }), recordOf({ job: 'j2', owner: FORMER })]
    const { find, calls, errors, records: store } = setup({ records })
    calls.fail('end')
    expect((await find()).ended).toEqual(['j2'])
    expect(errors).toEqual(['end failed'])
    expect([...store.stored.keys()]).toEqual(['j1'])
    calls.heal('end')
    expect((await find()).ended).toEqual(['j1'])
  })
})

describe('a ghost whose queue adopts', () => {
  const running = recordOf({ owner: FORMER, process: PROCESS })

  it('D5: goes on here under its new token, and is not touched', async () => {
    const { find, calls, records, adopted } = setup({ records: [running], queue: { orphans: 'adopt' } })
    records.adoptable.set('j1', 'token-9')
    expect(await find()).toEqual({ adopted: ['j1'], ended: [] })
    expect(adopted).toEqual([['j1', 'token-9']])
    expect(calls.list).toEqual(['list', 'adopt j1'])
  })

  it('D5: is ended when its job was taken back, cancelled or done meanwhile', async () => {
    const { find, calls, adopted } = setup({ records: [running], queue: { orphans: 'adopt' } })
    expect(await find()).toEqual({ adopted: [], ended: ['j1'] })
    expect(adopted).toEqual([])
    expect(calls.list).toContain('end 77 within 500')
  })

  it.each<readonly [string, SessionRecord]>([
    ['whose start was not written down', recordOf({ owner: FORMER })],
    ['of our own, that we could not end', recordOf({ process: PROCESS })],
  ])('is ended if it is one %s', async (_, record) => {
    const { find, calls, records } = setup({ records: [record], queue: { orphans: 'adopt' } })
    records.adoptable.set('j1', 'token-9')
    expect(await find()).toEqual({ adopted: [], ended: ['j1'] })
    expect(calls.count('adopt')).toBe(0)
  })

  it('whose adoption failed is told, and neither adopted nor ended now', async () => {
    const { find, calls, records, errors } = setup({ records: [running], queue: { orphans: 'adopt' } })
    calls.fail('adopt')
    expect(await find()).toEqual({ adopted: [], ended: [] })
    expect(errors).toEqual(['adopt failed'])
    expect(records.stored.size).toBe(1)
  })
})
