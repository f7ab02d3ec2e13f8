import { describe, expect, it } from 'vitest'
import type { Beat } from '../../../src/heartbeat/beat.js'
import type { SeenBeat } from '../../../src/heartbeat/seen-beat.js'
import { type ActiveJob, OrphanFinder, ownerName, parseOwner } from '../../../src/recovery/orphan-policy.js'
import { beatOf, jobOf, seenOf } from '../../support/beats.js'

const INCARNATION = '0123456789ab'
const OWNER = `a#${INCARNATION}`
const LOOK_MS = 5000

function active(changes: Partial<ActiveJob> = {}): ActiveJob {
  return { id: '17', owner: OWNER, fence: '1', locked: true, ...changes }
}

function beat(seq: number, jobs: Beat['jobs'] = [], changes: Partial<SeenBeat> = {}): SeenBeat {
  return seenOf(beatOf({ incarnation: INCARNATION, seq, jobs }), changes)
}

/** A finder that looks every five seconds. */
function setup() {
  const finder = new OrphanFinder()
  let now = 0
  return {
    finder,
    look(job: ActiveJob, seen?: SeenBeat, afterMs = LOOK_MS) {
      now += afterMs
      return finder.find([job], 'img', (name) => (name === 'a' ? seen : undefined), now).map(({ reason }) => reason)
    },
  }
}

describe("an owner's name", () => {
  it('is read as it was written', () => {
    const owner = { supervisor: 'web-1.example', incarnation: INCARNATION }
    expect(parseOwner(ownerName(owner))).toEqual(owner)
  })

  it.each([undefined, '', 'worker', 'a#', '#0123456789ab', 'a#0123', 'a#0123456789AB', 'a#b#0123456789ab'])(
    'is not ours when it reads %o',
    (name) => {
      expect(parseOwner(name)).toBeUndefined()
    },
  )
})

describe('a job whose supervisor is lost', () => {
  it.each<readonly [string, SeenBeat | undefined]>([
    ['its beat is silent beyond the timeout', beat(9, [], { overdueMs: 1 })],
    ['it said goodbye', beat(9, [], { bye: true })],
    ['its record is gone', undefined],
    ['its record is empty', { ...seenOf(), incarnation: undefined, beat: undefined }],
    ['a new incarnation has its name', seenOf(beatOf({ incarnation: 'ba9876543210', seq: 1 }))],
  ])('is an orphan at the first look: %s', (_, seen) => {
    expect(setup().look(active(), seen)).toEqual(['supervisor_lost'])
  })

  it('is an orphan even while its lock lives and its owner listed it last', () => {
    const listed = [jobOf({ queue: 'img', id: '17' })]
    expect(setup().look(active({ locked: true }), beat(9, listed, { overdueMs: 1 }))).toEqual(['supervisor_lost'])
  })

  it('is none when the silence is exactly as long as the timeout', () => {
    const listed = [jobOf({ queue: 'img', id: '17' })]
    expect(setup().look(active(), beat(9, listed, { overdueMs: 0 }))).toEqual([])
  })

  it('says in words what happened', () => {
    const [orphan] = new OrphanFinder().find([active()], 'img', () => undefined, 0)
    expect(orphan?.message).toBe('supervisor a was lost while it ran this job')
  })
})

describe('a job that its live owner does not list', () => {
  it('is an orphan at the second look with a newer beat', () => {
    const { look } = setup()
    expect(look(active(), beat(1))).toEqual([])
    expect(look(active(), beat(6))).toEqual(['disowned'])
  })

  it('is none while the beat is still the same one', () => {
    const { look } = setup()
    look(active(), beat(1))
    expect(look(active(), beat(1))).toEqual([])
    expect(look(active(), beat(2))).toEqual(['disowned'])
  })

  it('is none until a beat came so late that a reply under way would be verified before its job runs', () => {
    const { look } = setup()
    look(active(), beat(1, [], { ageMs: 0 }))
    expect(look(active(), beat(2, [], { ageMs: 0 }), 1000)).toEqual([])
    expect(look(active(), beat(3, [], { ageMs: 1 }), 2000)).toEqual([])
    expect(look(active(), beat(4, [], { ageMs: 1 }), 1)).toEqual(['disowned'])
  })

  it('is none when it is listed, also in between', () => {
    const { look } = setup()
    const listed = [jobOf({ queue: 'img', id: '17' })]
    look(active(), beat(1))
    expect(look(active(), beat(6, listed))).toEqual([])
    expect(look(active(), beat(11))).toEqual([])
    expect(look(active(), beat(16))).toEqual(['disowned'])
  })

  it('starts anew with a new claim', () => {
    const { look } = setup()
    look(active({ fence: '1' }), beat(1))
    expect(look(active({ fence: '2' }), beat(6))).toEqual([])
    expect(look(active({ fence: '2' }), beat(11))).toEqual(['disowned'])
  })

  it('starts anew when it was not active in between', () => {
    const { finder, look } = setup()
    look(active(), beat(1))
    finder.find([], 'img', () => beat(6), 10_000)
    expect(look(active(), beat(11))).toEqual([])
  })

  it('starts anew after the observer could not see', () => {
    const { finder, look } = setup()
    look(active(), beat(1))
    finder.forget()
    expect(look(active(), beat(6))).toEqual([])
  })

  it('is left alone when what the owner says cannot be read: unknown is not dead', () => {
    const { look } = setup()
    const broken: SeenBeat = { ...beat(1), beat: undefined, broken: 'not JSON' }
    for (let looks = 0; looks < 5; looks += 1) expect(look(active(), broken)).toEqual([])
    look(active(), beat(6))
    look(active(), broken)
    expect(look(active(), beat(11))).toEqual([])
  })

  it('is told from a job of the same id in another queue', () => {
    const { look } = setup()
    const other = [jobOf({ queue: 'mail', id: '17' })]
    look(active(), beat(1, other))
    expect(look(active(), beat(6, other))).toEqual(['disowned'])
  })

  it('is told from a job whose id begins the same', () => {
    const { look } = setup()
    const shorter = [jobOf({ queue: 'img', id: '1' })]
    look(active({ id: '17' }), beat(1, shorter))
    expect(look(active({ id: '17' }), beat(6, shorter))).toEqual(['disowned'])
  })

  it.each([
    ['x'.repeat(300), 'x'.repeat(160)],
    ['€'.repeat(100), '€'.repeat(53)],
  ])('is listed when the board had to cut its long id (%#)', (id, shown) => {
    const { look } = setup()
    const listed = [jobOf({ queue: 'img', id: shown })]
    for (let seq = 1; seq < 20; seq += 5) expect(look(active({ id }), beat(seq, listed))).toEqual([])
  })
})

describe('a job of a worker that nobody knows', () => {
  it.each([undefined, 'their-worker'])('(%o) is an orphan when it had no lock in two looks in a row', (owner) => {
    const { look } = setup()
    expect(look(active({ owner, locked: false }))).toEqual([])
    expect(look(active({ owner, locked: false }))).toEqual(['unlocked'])
  })

  it('is none while it is locked, also in between', () => {
    const { look } = setup()
    const owner = 'their-worker'
    look(active({ owner, locked: false }))
    expect(look(active({ owner, locked: true }))).toEqual([])
    expect(look(active({ owner, locked: false }))).toEqual([])
  })

  it('starts anew with a new claim', () => {
    const { look } = setup()
    const owner = 'their-worker'
    look(active({ owner, locked: false, fence: '1' }))
    expect(look(active({ owner, locked: false, fence: '2' }))).toEqual([])
  })
})
