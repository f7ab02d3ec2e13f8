import { describe, expect, it, onTestFinished } from 'vitest'
import type { Sight } from '../../../src/heartbeat/observer.js'
import type { SeenBeat } from '../../../src/heartbeat/seen-beat.js'
import type { ActiveJob, Orphan } from '../../../src/recovery/orphan-policy.js'
import { type ReconcilePort, reconcileLoop } from '../../../src/recovery/reconcile-loop.js'
import type { ResetBy } from '../../../src/recovery/reset-policy.js'
import type { SweepCursors, SweptPage } from '../../../src/recovery/sweep-plan.js'
import { settle } from '../../support/fake-time.js'

const CLEAR: Sight = { judges: 'all', reason: undefined, clearForMs: 9999, blindForMs: 0 }
const BLIND: Sight = { judges: 'none', reason: 'unreachable', clearForMs: 0, blindForMs: 100 }
const STARTING: Sight = { judges: 'stated', reason: 'starting', clearForMs: 0, blindForMs: 0 }

/** An orphan at the second look, so that what was noted before matters. */
const FOREIGN: ActiveJob = { id: 'f1', owner: undefined, fence: '1', locked: false }
/** An orphan at the first look. */
const LOST: ActiveJob = { id: 'l1', owner: 'a#0123456789ab', fence: '1', locked: true }

const IDLE = { state: 'idle', by: undefined, reset: 0 } as const
const THROUGH: SweptPage = {
  cursors: { failed: 'done', exhausted: 'done', permanent: 'done' },
  held: false,
  current: true,
  reset: 0,
}

/** The calls of a cycle in which a queue has nothing to do. */
const quiet = (queue: string) => [
  ...['openBreakers', 'lease', 'activeJobs'].map((call) => `${call} ${queue}`),
  'beats',
  ...['workCampaign', 'releaseDue', 'promoteProbes', 'sweepPage'].map((call) => `${call} ${queue}`),
]

/** A store that answers what a test sets. */
class FakePort implements ReconcilePort {
  sight: Sight = CLEAR
  leased = true
  jobs: ActiveJob[] = []
  seen = new Map<string, SeenBeat>()
  reapable = true
  breakers: string[] = []
  died = new Map<string, number>()
  /** What the next calls answer, in order; then nothing is left to do. */
  campaigns: Awaited<ReturnType<ReconcilePort['workCampaign']>>[] = []
  due: Awaited<ReturnType<ReconcilePort['releaseDue']>>[] = []
  pages: SweptPage[] = []
  broken: keyof ReconcilePort | undefined
  /** Only in this queue. */
  brokenFor: string | undefined
  readonly calls: string[] = []
  readonly sizes: number[] = []

  #call(name: keyof ReconcilePort, what = ''): void {
    this.calls.push(what === '' ? name : `${name} ${what}`)
    if (this.broken === name && (this.brokenFor === undefined || this.brokenFor === what)) throw new Error(`${name} failed`)
  }
  async look() {
    this.#call('look')
    return this.sight
  }
  now() {
    return 0
  }
  async lease(queue: string) {
    this.#call('lease', queue)
    return this.leased
  }
  async openBreakers(queue: string) {
    this.#call('openBreakers', queue)
    return this.breakers
  }
  async restarts() {
    this.#call('restarts')
    return this.died
  }
  async startRestarts(queue: string, restarts: ReadonlyMap<string, number>) {
    this.#call('startRestarts', `${queue} ${[...restarts].join()}`)
    return 1
  }
  async workCampaign(queue: string) {
    this.#call('workCampaign', queue)
    return this.campaigns.shift() ?? IDLE
  }
  async releaseDue(queue: string) {
    this.#call('releaseDue', queue)
    return this.due.shift() ?? { reset: 0, more: false }
  }
  async promoteProbes(queue: string) {
    this.#call('promoteProbes', queue)
    return 0
  }
  async sweepPage(queue: string, _cursors: SweepCursors, size: number) {
    this.#call('sweepPage', queue)
    this.sizes.push(size)
    return this.pages.shift() ?? { ...THROUGH }
  }
  async swept(queue: string) {
    this.#call('swept', queue)
  }
  async activeJobs(queue: string) {
    this.#call('activeJobs', queue)
    return this.jobs
  }
  async beats(supervisors: readonly string[]) {
    this.#call('beats', supervisors.join())
    return this.seen
  }
  async reap(_queue: string, { job }: Orphan) {
    this.#call('reap', job.id)
    return this.reapable
  }
}

async function setup(queues = ['img']) {
  const port = new FakePort()
  const reaped: string[] = []
  const resets: string[] = []
  const open: string[] = []
  const errors: unknown[] = []
  const phases: string[] = []
  const loop = reconcileLoop({
    queues,
    // Far away: the test turns the loop by hand.
    intervalMs: 1_000_000,
    port,
    probe: { started: () => phases.push('('), phase: (name) => phases.push(name), ended: () => phases.push(')'), skipped() {} },
    onReaped: (queue, orphans) => reaped.push(`${queue}: ${orphans.map(({ job }) => job.id).join()}`),
    onReset: (queue: string, by: ResetBy, count: number) => resets.push(`${queue}: ${count} by ${by}`),
    onBreakers: (queue, groups) => void open.push(`${queue}: ${groups.join()}`),
    onError: (error) => errors.push(error),
  })
  onTestFinished(() => loop.stop())
  const cycle = async () => {
    if (loop.state === 'idle') await loop.start()
    else loop.tick()
    await settle()
  }
  /** The calls of one cycle. */
  const callsOf = async () => {
    const before = port.calls.length
    await cycle()
    return port.calls.slice(before)
  }
  return { port, reaped, resets, open, errors, phases, cycle, callsOf }
}

describe('a reconcile cycle', () => {
  it('takes orphans back and releases what may run, phase by phase', async () => {
    const { port, reaped, phases, cycle } = await setup()
    port.jobs = [LOST]
    await cycle()
    const names = ['breakers', 'lease', 'find orphans', 'reap', 'campaigns', 'release', 'probe', 'sweep']
    expect(phases).toEqual(['(', ...names, ')'])
    expect(port.calls.slice(0, 7)).toEqual([
      'look',
      'restarts',
      'openBreakers img',
      'lease img',
      'activeJobs img',
      'beats a',
      'reap l1',
    ])
    expect(port.calls.slice(7)).toEqual([
      'workCampaign img',
      'releaseDue img',
      'promoteProbes img',
      'sweepPage img',
      'swept img',
    ])
    expect(reaped).toEqual(['img: l1'])
  })

  it('tells once of all that it took in a queue, and only of what was still there', async () => {
    const { port, reaped, cycle } = await setup(['img', 'mail'])
    port.jobs = [LOST, { ...LOST, id: 'l2' }]
    await cycle()
    expect(reaped).toEqual(['img: l1,l2', 'mail: l1,l2'])
    port.reapable = false
    await cycle()
    expect(reaped).toHaveLength(2)
  })

  it('without the lease touches nothing, and forgets what it had noted', async () => {
    const { port, reaped, cycle } = await setup()
    port.jobs = [FOREIGN]
    await cycle()
    port.leased = false
    await cycle()
    expect(port.calls.slice(-4)).toEqual(['look', 'restarts', 'openBreakers img', 'lease img'])
    port.leased = true
    await cycle()
    expect(reaped).toEqual([])
    await cycle()
    expect(reaped).toEqual(['img: f1'])
  })

  it.each([
    ['blind', BLIND],
    ['just started', STARTING],
  ])('B5 while %s takes and releases nothing, and forgets what it had noted', async (_, sight) => {
    const { port, reaped, cycle } = await setup()
    port.jobs = [FOREIGN, LOST]
    port.reapable = false
    await cycle()
    port.reapable = true
    port.sight = sight
    await cycle()
    expect(port.calls.slice(-4)).toEqual(['look', 'restarts', 'openBreakers img', 'lease img'])
    port.sight = CLEAR
    await cycle()
    expect(reaped).toEqual(['img: l1'])
    await cycle()
    expect(reaped).toEqual(['img: l1', 'img: f1,l1'])
  })

  it.each(['look', 'restarts', 'openBreakers', 'lease', 'activeJobs', 'beats', 'reap'] as const)(
    'A2 that fails in %s is told, ends, and does not stop the next one',
    async (broken) => {
      const { port, reaped, errors, phases, cycle } = await setup()
      port.jobs = [LOST]
      port.broken = broken
      await cycle()
      expect(errors).toEqual([new Error(`${broken} failed`)])
      expect(phases.at(-1)).toBe(')')
      expect(reaped).toEqual([])
      port.broken = undefined
      await cycle()
      expect(reaped).toEqual(['img: l1'])
    },
  )

  it('asks for each owner once, and for no worker that is not ours', async () => {
    const { port, cycle } = await setup()
    port.jobs = [LOST, { ...LOST, id: 'l2' }, FOREIGN, { ...LOST, id: 'l3', owner: 'b#0123456789ab' }]
    await cycle()
    expect(port.calls).toContain('beats a,b')
  })
})

describe('a queue of a reconcile cycle', () => {
  it('that fails in any phase does not keep the next one waiting', async () => {
    const { port, errors, callsOf } = await setup(['img', 'mail'])
    port.broken = 'sweepPage'
    port.brokenFor = 'img'
    const calls = await callsOf()
    expect(errors).toEqual([new Error('sweepPage failed')])
    expect(calls).toEqual(['look', 'restarts', ...quiet('img'), ...quiet('mail'), 'swept mail'])
  })

  it('C11 tells which breakers are open, also without the lease', async () => {
    const { port, open, cycle } = await setup()
    port.leased = false
    port.breakers = ['acme', '']
    await cycle()
    port.breakers = []
    await cycle()
    expect(open).toEqual(['img: acme,', 'img: '])
  })

  it('C9 orders the resets that follow a restart before it works off any', async () => {
    const { port, callsOf } = await setup()
    port.died = new Map([['acme', 3]])
    const calls = await callsOf()
    expect(calls.slice(calls.indexOf('beats') + 1, -4)).toEqual(['startRestarts img acme,3', 'workCampaign img'])
  })

  it('works off bulk resets page by page until the pace holds them, and tells once what they came to', async () => {
    const { port, resets, callsOf } = await setup()
    port.campaigns = [
      { state: 'more', by: 'hand', reset: 3 },
      { state: 'more', by: 'restart', reset: 0 },
      { state: 'held', by: 'hand', reset: 2 },
      { state: 'more', by: 'hand', reset: 1 },
    ]
    const calls = await callsOf()
    expect(calls.filter((call) => call === 'workCampaign img')).toHaveLength(3)
    expect(resets).toEqual(['img: 5 by hand'])
  })

  it('C5 releases what cooled down, as long as there is more, and tells once', async () => {
    const { port, resets, cycle } = await setup()
    port.due = [
      { reset: 2, more: true },
      { reset: 1, more: false },
    ]
    await cycle()
    expect(resets).toEqual(['img: 3 by cooldown'])
  })

  it('goes fast through all failed jobs when it becomes responsible, then slowly, and fast again later', async () => {
    const { port, resets, cycle } = await setup()
    port.pages = [{ ...THROUGH, cursors: { failed: '7', exhausted: 'done', permanent: 'done' }, reset: 4 }]
    await cycle()
    await cycle()
    expect(port.sizes).toEqual([250, 250, 25])
    expect(port.calls.filter((call) => call === 'swept img')).toHaveLength(1)
    expect(resets).toEqual(['img: 4 by settings'])
    port.leased = false
    await cycle()
    port.leased = true
    await cycle()
    expect(port.sizes).toEqual([250, 250, 25, 250])
  })

  it('comes round although there is no end of work', async () => {
    const { port, phases, cycle } = await setup()
    port.campaigns = Array.from({ length: 1000 }, () => ({ state: 'more', by: 'hand', reset: 1 }) as const)
    port.due = Array.from({ length: 1000 }, () => ({ reset: 1, more: true }))
    await cycle()
    expect(phases.at(-1)).toBe(')')
    expect(port.calls.length).toBeLessThan(120)
  })
})
