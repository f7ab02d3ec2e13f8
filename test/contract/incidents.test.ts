import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import {
  FLAPPING_OPENINGS,
  type Incident,
  type IncidentDraft,
  type Incidents,
  type Transition,
} from '../../src/watchdog/incident.js'
import { redisIncidents } from '../../src/watchdog/redis-incidents.js'
import { MemoryIncidents } from '../support/memory-incidents.js'
import { startTestRedis, type TestRedis } from '../support/redis.js'

interface Harness {
  readonly incidents: Incidents
  /** Makes the time to say run out for everything that is unsaid. */
  expireUnsaid(): Promise<void>
  /** Deaths and returns as they are counted, by `died:GROUP` and `back:GROUP`. */
  restarts(): Promise<Readonly<Record<string, number>>>
}

let ids = 0
const draft = (changes: Partial<IncidentDraft> = {}): IncidentDraft => ({
  incidentId: `i${++ids}`,
  subjectKind: 'job',
  subject: 'job:img/odd "id" \\ {x}',
  cause: 'job_silent',
  ageMs: 301_000,
  thresholdMs: 300_000,
  since: '2026-01-01T00:00:00.000Z',
  watchdogId: 'w1',
  queue: 'img',
  serves: [],
  count: 1,
  ...changes,
})

const NEWEST = Number.MAX_SAFE_INTEGER

function only<T>(list: readonly T[]): T {
  const [first] = list
  if (first === undefined || list.length !== 1) throw new Error(`expected one, got ${list.length}`)
  return first
}

function mapValues<T, U>(record: Readonly<Record<string, T>>, map: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]))
}

function contract(name: string, setup: () => Promise<Harness>) {
  describe(`incidents (${name})`, () => {
    const openOne = async (incidents: Incidents, one = draft()): Promise<Incident> =>
      only(await incidents.open(one, NEWEST)).incident

    it('B1 of three that open the same subject at once one wins', async () => {
      const { incidents } = await setup()
      const won = await Promise.all(['w1', 'w2', 'w3'].map((watchdogId) => incidents.open(draft({ watchdogId }), NEWEST)))
      const transition = only(won.flat())
      expect(transition.event).toBe('stuck')
      expect(only(await incidents.listOpen())).toEqual(transition.incident)
    })

    it('B1 of three that close it at once one wins, and it ends with an outcome and a duration', async () => {
      const { incidents } = await setup()
      const incident = await openOne(incidents)
      const won = await Promise.all([1, 2, 3].map(() => incidents.close(incident, 'recovered')))
      const transition = only(won.flat())
      expect(transition).toMatchObject({
        event: 'resumed',
        outcome: 'recovered',
        incident: { subject: incident.subject, serves: [] },
      })
      expect(transition.event === 'resumed' && transition.durationMs).toBeGreaterThanOrEqual(301_000)
      expect(await incidents.listOpen()).toEqual([])
    })

    it('closes only the incident that was meant, not its successor', async () => {
      const { incidents } = await setup()
      const first = await openOne(incidents)
      await incidents.close(first, 'superseded')
      await openOne(incidents)
      expect(await incidents.close(first, 'recovered')).toEqual([])
      expect(await incidents.listOpen()).toHaveLength(1)
    })

    it('refuses a finding that is older than the end of the last incident of its subject', async () => {
      const { incidents } = await setup()
      const incident = await openOne(incidents)
      await incidents.close(incident, 'recovered')
      expect(await incidents.open(draft(), incident.seq)).toEqual([])
      expect(await incidents.open(draft(), NEWEST)).toHaveLength(1)
    })

    it('numbers every transition, and lists the newest first', async () => {
      const { incidents } = await setup()
      await incidents.close(await openOne(incidents), 'drained')
      const recent = await incidents.recent(10)
      expect(recent.map(({ event }) => event)).toEqual(['resumed', 'stuck'])
      expect((recent[0]?.seq ?? 0) - (recent[1]?.seq ?? 0)).toBe(1)
      expect(await incidents.recent(1)).toHaveLength(1)
    })

    it('B7 an update is made once: whoever read an older record is refused', async () => {
      const { incidents } = await setup()
      await openOne(incidents)
      const [a, b] = [only(await incidents.listOpen()), only(await incidents.listOpen())]
      expect(await incidents.update(a, { ...a, heldBack: 1 })).toBe(true)
      expect(a === b ? false : await incidents.update(b, { ...b, heldBack: 1 })).toBe(false)
      expect(only(await incidents.listOpen()).heldBack).toBe(1)
    })

    it('B1 a transition that its winner did not write in time is claimed by one other', async () => {
      const { incidents, expireUnsaid } = await setup()
      const transition = only(await incidents.open(draft(), NEWEST))
      expect(await incidents.claimUnsaid()).toEqual([])
      await expireUnsaid()
      const claimed = await Promise.all([incidents.claimUnsaid(), incidents.claimUnsaid()])
      expect(only(claimed.flat())).toEqual(transition)
    })

    it('B1 a transition that was written is never claimed', async () => {
      const { incidents, expireUnsaid } = await setup()
      await incidents.said(only(await incidents.open(draft(), NEWEST)))
      await expireUnsaid()
      expect(await incidents.claimUnsaid()).toEqual([])
    })

    it('B6 the opening after too many says that it flaps, and is held', async () => {
      const { incidents } = await setup()
      const openings: (readonly Transition[])[] = []
      for (let i = 0; i <= FLAPPING_OPENINGS; i++) {
        const transitions = await incidents.open(draft(), NEWEST)
        openings.push(transitions)
        if (i < FLAPPING_OPENINGS) for (const { incident } of transitions) await incidents.close(incident, 'recovered')
      }
      expect(openings.map((transitions) => transitions.map(({ event }) => event).join('+'))).toEqual([
        ...Array<string>(FLAPPING_OPENINGS).fill('stuck'),
        'stuck+flapping',
      ])
      expect(only(await incidents.listOpen()).held).toBe(true)
    })

    it('puts back what a store lost, once, and numbers go on', async () => {
      const { incidents } = await setup()
      const lost = { ...(await openOne(incidents)), seq: 500, subject: 'queue:lost', serves: ['a'] }
      await Promise.all([incidents.restore([lost]), incidents.restore([lost])])
      expect((await incidents.listOpen()).find(({ subject }) => subject === 'queue:lost')).toEqual(lost)
      expect(only(await incidents.open(draft({ subject: 'queue:next' }), NEWEST)).seq).toBe(501)
    })

    const death = (group: string | undefined, name = 'a') =>
      draft({
        subjectKind: 'process',
        subject: `supervisor:${name}`,
        cause: 'process_dead',
        ageMs: 5001,
        thresholdMs: 5000,
        supervisor: name,
        ...(group === undefined ? {} : { group }),
      })

    it('C9 of three that find a supervisor dead at once one counts a death in its group, and no other incident does', async () => {
      const { incidents, restarts } = await setup()
      await Promise.all([1, 2, 3].map(() => incidents.open(death('acme'), NEWEST)))
      await incidents.open(death(undefined, 'b'), NEWEST)
      await incidents.open(draft({ group: 'acme' }), NEWEST)
      expect(await restarts()).toEqual({ 'died:acme': 1, 'died:': 1 })
    })

    it.each(['recovered', 'replaced'] as const)('C9 a death that ends as %s brings its group back, once', async (outcome) => {
      const { incidents, restarts } = await setup()
      await openOne(incidents, death('acme', 'b'))
      const incident = await openOne(incidents, death('acme'))
      await openOne(incidents, death(undefined, 'c'))
      await Promise.all([1, 2, 3].map(() => incidents.close(incident, outcome)))
      expect(await restarts()).toEqual({ 'died:acme': 2, 'back:acme': 2, 'died:': 1 })
      await openOne(incidents, death('acme'))
      expect(await restarts()).toMatchObject({ 'died:acme': 3, 'back:acme': 2 })
    })

    it.each(['gone', 'superseded', 'stopped'] as const)('C9 a death that ends as %s brings nobody back', async (outcome) => {
      const { incidents, restarts } = await setup()
      await incidents.close(await openOne(incidents, death('acme')), outcome)
      expect(await restarts()).toEqual({ 'died:acme': 1 })
    })

    it('C9 the end of another trouble of a group brings nobody back', async () => {
      const { incidents, restarts } = await setup()
      await openOne(incidents, death('acme'))
      await incidents.close(await openOne(incidents, draft({ group: 'acme' })), 'recovered')
      expect(await restarts()).toEqual({ 'died:acme': 1 })
    })

    it('records what one watchdog said alone', async () => {
      const { incidents } = await setup()
      const { incident } = only(await incidents.open(draft({ subject: 'redis', subjectKind: 'redis' }), NEWEST))
      await incidents.record([{ seq: 0, at: 1, event: 'stuck', incident }])
      const [newest] = await incidents.recent(1)
      expect(newest).toMatchObject({ seq: 2, event: 'stuck', incident: { subject: 'redis' } })
    })
  })
}

contract('memory', async () => {
  let now = 1_700_000_000_000
  const incidents = new MemoryIncidents(() => now)
  return {
    incidents,
    restarts: async () => Object.fromEntries(incidents.restarts),
    expireUnsaid: async () => {
      now += 2001
    },
  }
})

describe('on a real Redis', () => {
  let server: TestRedis
  let redis: Redis
  let prefixes = 0
  beforeAll(async () => {
    server = await startTestRedis()
    redis = new Redis(server.url)
  })
  afterAll(async () => {
    redis.disconnect()
    await server.stop()
  })
  contract('redis', async () => {
    const keys = fleetKeys(`{t${++prefixes}}`)
    return {
      incidents: redisIncidents(redis, keys),
      restarts: async () => mapValues(await redis.hgetall(keys.restarts), Number),
      expireUnsaid: async () => {
        const members = await redis.zrange(keys.unsaid, '0', '-1')
        for (const member of members) await redis.zadd(keys.unsaid, 0, member)
      },
    }
  })
})
