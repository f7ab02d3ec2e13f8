import { describe, expect, it } from 'vitest'
import type { Sight } from '../../../src/heartbeat/observer.js'
import { diagnose, type Evidence, isDead } from '../../../src/watchdog/diagnosis.js'
import { type Decision, Health, TOUCH_EVERY_MS } from '../../../src/watchdog/health.js'
import { FLAPPING_CALM_MS, FLAPPING_OPENINGS, type Transition } from '../../../src/watchdog/incident.js'
import { beatOf, deadOf, jobOf, loopOf, seenOf, threadOf } from '../../support/beats.js'
import { factsOf } from '../../support/findings.js'
import { MemoryIncidents } from '../../support/memory-incidents.js'

const clear: Sight = { judges: 'all', reason: undefined, clearForMs: 60_000, blindForMs: 0 }
const GONE_AFTER_MS = 600_000

/** Some watchdogs over one store: each `cycle` all of them see the same and act one after the other. */
function setup(watchdogs = ['w1']) {
  let now = 1_700_000_000_000
  let ids = 0
  const store = new MemoryIncidents(() => now)
  const said: string[] = []
  const forgotten: string[] = []
  const healths = watchdogs.map((watchdogId) => new Health({ watchdogId, goneAfterMs: GONE_AFTER_MS, timeoutMs: 5000 }))

  const say = (transitions: readonly Transition[]) => {
    for (const transition of transitions) {
      const ending = transition.event === 'resumed' ? ` ${transition.outcome}` : ''
      said.push(`${transition.event} ${transition.incident.subject} ${transition.incident.cause}${ending}`)
    }
  }
  const act = async (decision: Decision) => {
    if (decision.do === 'close') say(await store.close(decision.incident, decision.outcome))
    if (decision.do === 'update') await store.update(decision.from, decision.to)
    if (decision.do === 'forget') forgotten.push(decision.seen.supervisor)
    if (decision.do !== 'open') return
    const incidentId = `i${++ids}`
    say(await store.open({ ...decision.trouble, incidentId, since: '', watchdogId: 'w', count: 1 }, Number.MAX_SAFE_INTEGER))
  }
  const cycle = async (evidence: Partial<Evidence> = {}, passMs = 1000) => {
    now += passMs
    for (const health of healths) {
      const open = await store.listOpen()
      const whole: Evidence = {
        sight: clear,
        supervisors: [],
        queues: [],
        watchdogs: [],
        watchdogLostAfterMs: 5000,
        ...evidence,
        open,
      }
      const input = { sight: whole.sight, diagnosis: diagnose(whole), open, watchdogs: whole.watchdogs, redisNow: now, now }
      for (const decision of health.decide(input)) await act(decision)
    }
  }
  return { cycle, said, store, forgotten, beats: (...supervisors: Evidence['supervisors']) => cycle({ supervisors }) }
}

const blockedMain = beatOf({ main: { ageMs: 6000, thresholdMs: 5000 } })
const staleLoop = loopOf({ ageMs: 66_000 })
const notMoving = { cause: 'queue_not_moving', heldMs: 700, thresholdMs: 600 } as const

describe('incidents over many cycles', () => {
  it('B1 one STUCK and one RESUMED over 100 cycles of three watchdogs', async () => {
    const { beats, said } = setup(['w1', 'w2', 'w3'])
    for (let i = 0; i < 100; i++) await beats(seenOf(blockedMain))
    for (let i = 0; i < 100; i++) await beats(seenOf())
    expect(said).toEqual(['stuck supervisor:a/main loop_blocked', 'resumed supervisor:a/main loop_blocked recovered'])
  })

  it('B7 a violation held for 700 cycles is one record with first, last and count, written seldom', async () => {
    const { beats, said, store } = setup()
    let writes = 0
    const update = store.update.bind(store)
    store.update = (from, to) => {
      writes++
      return update(from, to)
    }
    for (let i = 0; i <= 700; i++) await beats(seenOf(blockedMain))
    expect(said).toHaveLength(1)
    const [incident] = await store.listOpen()
    expect(writes).toBeLessThanOrEqual((700 * 1000) / TOUCH_EVERY_MS)
    expect(incident?.count).toBeGreaterThan(700 - TOUCH_EVERY_MS / 1000)
    expect((incident?.lastAtRedisMs ?? 0) - (incident?.openedAtRedisMs ?? 0)).toBeGreaterThanOrEqual(690_000)
  })

  it('what was not looked at stays as it is', async () => {
    const { cycle, beats, said } = setup()
    await beats(seenOf(blockedMain))
    for (let i = 0; i < 5; i++) await cycle()
    await beats(seenOf(beatOf({ supervisor: 'b' })))
    expect(said).toHaveLength(1)
  })

  it('a covered trouble that was open stays open without a new line, and one that was not is not said', async () => {
    const { beats, said } = setup()
    await beats(seenOf(beatOf({ loops: [staleLoop] })))
    await beats(seenOf(beatOf({ loops: [staleLoop], main: { ageMs: 6000, thresholdMs: 5000 } })))
    await beats(seenOf(beatOf({ loops: [staleLoop] })))
    expect(said).toEqual([
      'stuck supervisor:a/loop:fetch:img poll_stale',
      'stuck supervisor:a/main loop_blocked',
      'resumed supervisor:a/main loop_blocked recovered',
    ])
  })

  it('when the larger trouble ends, what still holds is said under its own cause', async () => {
    const { beats, said } = setup()
    await beats(seenOf(beatOf({ loops: [staleLoop], main: { ageMs: 6000, thresholdMs: 5000 } })))
    await beats(seenOf(beatOf({ loops: [staleLoop] })))
    expect(said.at(-1)).toBe('stuck supervisor:a/loop:fetch:img poll_stale')
  })

  it('the parts of a process that dies are superseded: nobody can know them any more', async () => {
    const { beats, said } = setup()
    await beats(seenOf(beatOf({ threads: [threadOf({ tickAgeMs: 12_000 })], jobs: [jobOf({ thread: 2, silentMs: 300_001 })] })))
    await beats(deadOf())
    expect(said.slice(2).sort()).toEqual([
      'resumed job:img/17 job_silent superseded',
      'resumed supervisor:a/thread:img:1 thread_blocked superseded',
      'stuck supervisor:a process_dead',
    ])
  })

  it.each([
    ['recovered', 'the same incarnation beats again', seenOf()],
    ['replaced', 'a new incarnation bears its name', seenOf(beatOf({ incarnation: 'a-2' }))],
    ['stopped', 'it said goodbye', seenOf(beatOf(), { bye: true })],
  ])('A12 process_dead ends as %s when %s', async (outcome, _when, seen) => {
    const { beats, said } = setup()
    await beats(deadOf())
    await beats(seen)
    expect(said).toEqual(['stuck supervisor:a process_dead', `resumed supervisor:a process_dead ${outcome}`])
  })

  it('A12 the same trouble of a new incarnation is another incident', async () => {
    const { beats, said } = setup()
    await beats(seenOf(blockedMain))
    await beats(seenOf({ ...blockedMain, incarnation: 'a-2' }))
    await beats(seenOf({ ...blockedMain, incarnation: 'a-2' }))
    expect(said.slice(1)).toEqual(['resumed supervisor:a/main loop_blocked replaced', 'stuck supervisor:a/main loop_blocked'])
  })

  it('a supervisor that stays dead is gone after a while, and forgotten', async () => {
    const { beats, said, forgotten } = setup()
    await beats(deadOf())
    await beats(deadOf(beatOf(), GONE_AFTER_MS - 5001))
    expect(said).toHaveLength(1)
    await beats(deadOf(beatOf(), GONE_AFTER_MS))
    expect(said.at(-1)).toBe('resumed supervisor:a process_dead gone')
    expect(forgotten).toEqual(['a'])
  })

  it('a supervisor that another watchdog forgot is gone here too', async () => {
    const { beats, said } = setup()
    await beats(deadOf())
    await beats(seenOf(beatOf(), { incarnation: undefined, beat: undefined, overdueMs: 0, ageMs: 0 }))
    expect(said.at(-1)).toBe('resumed supervisor:a process_dead gone')
  })

  it('A6 a stale loop that is told to rest ends as stopped', async () => {
    const { beats, said } = setup()
    await beats(seenOf(beatOf({ loops: [staleLoop] })))
    await beats(seenOf(beatOf({ loops: [loopOf({ state: 'paused', inFlight: false })] })))
    expect(said.at(-1)).toBe('resumed supervisor:a/loop:fetch:img poll_stale stopped')
  })

  it.each([
    ['drained', 'it ran empty', factsOf({ waiting: 0 }), []],
    ['recovered', 'it moves', factsOf({ waiting: 5 }), []],
    ['stopped', 'it was paused', factsOf({ waiting: 5, paused: true }), []],
    [
      'superseded',
      'another trouble began',
      factsOf({ waiting: 5 }),
      [{ cause: 'no_eligible_worker', heldMs: 0, thresholdMs: 600 }] as const,
    ],
  ])('B9 a queue is RESUMED as %s when %s', async (outcome, _when, facts, conditions) => {
    const { cycle, said } = setup()
    await cycle({ queues: [{ facts: factsOf({ waiting: 5 }), conditions: [notMoving] }] })
    await cycle({ queues: [{ facts, conditions }] })
    expect(said).toEqual(['stuck queue:img queue_not_moving', `resumed queue:img queue_not_moving ${outcome}`])
  })

  it('an open queue incident stays open after a restart, though the new watchdog has not seen it for long', async () => {
    const { cycle, said } = setup()
    await cycle({ queues: [{ facts: factsOf({ waiting: 5 }), conditions: [notMoving] }] })
    await cycle({ queues: [{ facts: factsOf({ waiting: 5 }), conditions: [{ ...notMoving, heldMs: 0 }] }] })
    expect(said).toHaveLength(1)
  })

  it('a subject with another cause is superseded and said anew', async () => {
    const { cycle, said } = setup()
    await cycle({ queues: [{ facts: factsOf(), conditions: [notMoving] }] })
    await cycle({
      queues: [{ facts: factsOf(), conditions: [{ cause: 'no_eligible_worker', heldMs: 700, thresholdMs: 600 }] }],
    })
    expect(said.slice(1)).toEqual(['resumed queue:img queue_not_moving superseded', 'stuck queue:img no_eligible_worker'])
  })

  it('B5 while it is blind nothing opens and nothing closes', async () => {
    const { cycle, beats, said } = setup()
    await beats(seenOf(blockedMain))
    const sight: Sight = { judges: 'none', reason: 'unreachable', clearForMs: 0, blindForMs: 9000 }
    for (let i = 0; i < 10; i++) await cycle({ sight, supervisors: [seenOf(), deadOf(beatOf({ supervisor: 'b' }))] })
    expect(said).toHaveLength(1)
  })

  it.each(['clock_jump', 'paused', 'memory_lost'] as const)(
    'B4 blind by %s is said once and resumed once, by each for itself',
    async (reason) => {
      const { cycle, said } = setup(['w1', 'w2'])
      for (let i = 0; i < 10; i++) await cycle({ sight: { judges: 'none', reason, clearForMs: 0, blindForMs: 9000 } })
      const watchdogs = ['w1', 'w2'].map((id) => ({ id, silentMs: 10 }))
      for (let i = 0; i < 10; i++) await cycle({ watchdogs })
      const lines = ['w1', 'w2'].map((id) => `watchdog:${id} watchdog_blind`)
      expect(said).toEqual([...lines.map((line) => `stuck ${line}`), ...lines.map((line) => `resumed ${line} recovered`)])
    },
  )

  it('a start and an outage are no watchdog_blind', async () => {
    const { cycle, said } = setup()
    await cycle({ sight: { judges: 'stated', reason: 'starting', clearForMs: 0, blindForMs: 0 } })
    await cycle({ sight: { judges: 'none', reason: 'unreachable', clearForMs: 0, blindForMs: 9000 } })
    expect(said).toEqual([])
  })

  it('B4 a lost watchdog is resumed when it is back, and gone in the end', async () => {
    const { cycle, said } = setup()
    await cycle({ watchdogs: [{ id: 'w2', silentMs: 6000 }] })
    await cycle({ watchdogs: [{ id: 'w2', silentMs: 10 }] })
    await cycle({ watchdogs: [{ id: 'w2', silentMs: 6000 }] })
    await cycle({ watchdogs: [{ id: 'w2', silentMs: GONE_AFTER_MS }] })
    const ends = said.filter((line) => line.startsWith('resumed'))
    expect(ends).toEqual(['resumed watchdog:w2 watchdog_lost recovered', 'resumed watchdog:w2 watchdog_lost gone'])
  })

  it('B6 fifty times over the threshold is held down: bounded lines, and the last says how many were held back', async () => {
    const { beats, said, store } = setup(['w1', 'w2', 'w3'])
    for (let i = 0; i < 50; i++) {
      await beats(seenOf(blockedMain))
      await beats(seenOf())
    }
    expect(said).toHaveLength(2 * FLAPPING_OPENINGS + 2)
    expect(said.at(-1)).toBe('flapping supervisor:a/main loop_blocked')
    for (let calm = 0; calm <= FLAPPING_CALM_MS; calm += 1000) await beats(seenOf())
    expect(said).toHaveLength(2 * FLAPPING_OPENINGS + 3)
    const [last] = await store.recent(1)
    expect(last).toMatchObject({
      event: 'resumed',
      outcome: 'recovered',
      incident: { held: true, heldBack: 50 - FLAPPING_OPENINGS - 1 },
    })
  })

  it('B6 a held incident ends at once when its supervisor says goodbye', async () => {
    const { beats, said } = setup()
    for (let i = 0; i <= FLAPPING_OPENINGS; i++) {
      await beats(seenOf(blockedMain))
      if (i < FLAPPING_OPENINGS) await beats(seenOf())
    }
    await beats(seenOf(beatOf(), { bye: true }))
    expect(said.at(-1)).toBe('resumed supervisor:a/main loop_blocked stopped')
  })

  it('silence is death only past the deadline', () => {
    expect([isDead(deadOf(beatOf(), 0)), isDead(deadOf(beatOf(), 1))]).toEqual([false, true])
  })
})
