import { describe, expect, it, onTestFinished } from 'vitest'
import type { Sight } from '../../../src/heartbeat/observer.js'
import type { SeenBeat } from '../../../src/heartbeat/seen-beat.js'
import type { ActiveJob, Orphan } from '../../../src/recovery/orphan-policy.js'
import { type ReconcilePort, reconcileLoop } from '../../../src/recovery/reconcile-loop.js'
import { settle } from '../../support/fake-time.js'

const CLEAR: Sight = { judges: 'all', reason: undefined, clearForMs: 9999, blindForMs: 0 }
const BLIND: Sight = { judges: 'none', reason: 'unreachable', clearForMs: 0, blindForMs: 100 }
const STARTING: Sight = { judges: 'stated', reason: 'starting', clearForMs: 0, blindForMs: 0 }

/** An orphan at the second look, so that what was noted before matters. */
const FOREIGN: ActiveJob = { id: 'f1', owner: undefined, fence: '1', locked: false }
/** An orphan at the first look. */
const LOST: ActiveJob = { id: 'l1', owner: 'a#0123456789ab', fence: '1', locked: true }

/** A store that answers what a test sets. */
class FakePort implements ReconcilePort {
  sight: Sight = CLEAR
  leased = true
  jobs: ActiveJob[] = []
  seen = new Map<string, SeenBeat>()
  reapable = true
  broken: keyof ReconcilePort | undefined
  readonly calls: string[] = []

  #call(name: keyof ReconcilePort, what = ''): void {
    this.calls.push(what === '' ? name : `${name} ${what}`)
    if (this.broken === name) throw new Error(`${name} failed`)
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
  async measure(queue: string) {
    this.#call('measure', queue)
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
  const errors: unknown[] = []
  const phases: string[] = []
  const loop = reconcileLoop({
    queues,
    // Far away: the test turns the loop by hand.
    intervalMs: 1_000_000,
    port,
    probe: { started: () => phases.push('('), phase: (name) => phases.push(name), ended: () => phases.push(')'), skipped() {} },
    onReaped: (queue, orphans) => reaped.push(`${queue}: ${orphans.map(({ job }) => job.id).join()}`),
    onError: (error) => errors.push(error),
  })
  onTestFinished(() => loop.stop())
  const cycle = async () => {
    if (loop.state === 'idle') await loop.start()
    else loop.tick()
    await settle()
  }
  return { port, reaped, errors, phases, cycle }
}

describe('a reconcile cycle', () => {
  it('measures each queue and takes its orphans back, phase by phase', async () => {
    const { port, reaped, phases, cycle } = await setup()
    port.jobs = [LOST]
    await cycle()
    expect(phases).toEqual(['(', 'lease', 'measure', 'find orphans', 'reap', ')'])
    expect(port.calls).toEqual(['look', 'lease img', 'measure img', 'activeJobs img', 'beats a', 'reap l1'])
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
    expect(port.calls.slice(-2)).toEqual(['look', 'lease img'])
    port.leased = true
    await cycle()
    expect(reaped).toEqual([])
    await cycle()
    expect(reaped).toEqual(['img: f1'])
  })

  it.each([
    ['blind', BLIND],
    ['just started', STARTING],
  ])('B5 while %s measures, but takes nothing back and forgets what it had noted', async (_, sight) => {
    const { port, reaped, cycle } = await setup()
    port.jobs = [FOREIGN, LOST]
    port.reapable = false
    await cycle()
    port.reapable = true
    port.sight = sight
    await cycle()
    expect(port.calls.slice(-3)).toEqual(['look', 'lease img', 'measure img'])
    port.sight = CLEAR
    await cycle()
    expect(reaped).toEqual(['img: l1'])
    await cycle()
    expect(reaped).toEqual(['img: l1', 'img: f1,l1'])
  })

  it.each(['look', 'lease', 'measure', 'activeJobs', 'beats', 'reap'] as const)(
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
