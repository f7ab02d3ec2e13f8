import { fastify } from 'fastify'
import { describe, expect, it } from 'vitest'
import { addReads, type ReadDeps } from '../../../src/http/api-reads.js'
import { AJV, addInputRules } from '../../../src/http/http-input.js'
import type { FleetView } from '../../../src/http/read-model.js'
import type { Incident, Transition } from '../../../src/watchdog/incident.js'
import type { WatchView } from '../../../src/watchdog/watch-loop.js'

const incidentOf = (name: string): Incident => ({
  ...{ incidentId: name, seq: 1, subjectKind: 'process', subject: `supervisor:${name}`, cause: 'process_dead' },
  ...{ ageMs: 1, thresholdMs: 1, openedAtRedisMs: 0, lastAtRedisMs: 0, since: '2026-01-01T00:00:00.000Z' },
  ...{ watchdogId: 'w', count: 1, held: false, heldBack: 0 },
})

const ended = (name: string): Transition => ({
  ...{ seq: 2, at: 0, event: 'resumed', outcome: 'recovered', durationMs: 1 },
  incident: incidentOf(name),
})

const names = (kind: string, count: number) => Array.from({ length: count }, (_, index) => `${kind}${index}`)

async function setup({ open = 0, past = 0 } = {}) {
  let fleet: FleetView = { supervisors: [], queues: [], incidents: names('open', open).map(incidentOf) }
  let watch: WatchView = {
    ...{ sight: { judges: 'all', reason: undefined, clearForMs: 1, blindForMs: 0 }, outage: undefined, lastCycleAt: 1 },
  }
  const deps: ReadDeps = {
    api: {} as ReadDeps['api'],
    readModel: { readFleet: async () => fleet },
    recent: async (limit) => names('past', past).map(ended).slice(0, limit),
    watch: () => watch,
    signOfLife: async () => 'PONG',
    pollStaleThresholdMs: 1,
  }
  const server = fastify({ ajv: AJV })
  addInputRules(server)
  addReads(server, deps)
  const get = async (path: string) => (await server.inject({ url: `/api/v1${path}` })).json<Record<string, unknown>>()
  return {
    incidents: async (query = '') =>
      ((await get(`/incidents${query}`))['incidents'] as { incidentId: string }[]).map(({ incidentId }) => incidentId),
    status: async () => (await get('/health'))['status'],
    fleetIs: (next: Partial<FleetView>) => {
      fleet = { ...fleet, ...next }
    },
    watchIs: (next: Partial<WatchView>) => {
      watch = { ...watch, ...next }
    },
  }
}

describe('the list of incidents', () => {
  it('is fifty long unless asked: the open ones, then the latest that ended', async () => {
    const { incidents } = await setup({ open: 3, past: 80 })
    expect(await incidents()).toEqual([...names('open', 3), ...names('past', 47)])
    expect(await incidents('?limit=4')).toEqual([...names('open', 3), 'past0'])
    expect(await incidents('?limit=1000')).toHaveLength(83)
    expect(await incidents('?open=true')).toEqual(names('open', 3))
  })

  it('leaves out no open one unless asked to', async () => {
    const { incidents } = await setup({ open: 60, past: 5 })
    expect(await incidents()).toEqual(names('open', 60))
    expect(await incidents('?open=true')).toEqual(names('open', 60))
    expect(await incidents('?limit=2')).toEqual(names('open', 2))
  })
})

describe('the answer of health', () => {
  it('is another one at once when the fleet, the sight or the outage is another', async () => {
    const { status, fleetIs, watchIs } = await setup()
    expect([await status(), await status()]).toEqual(['ok', 'ok'])
    fleetIs({ incidents: [incidentOf('a')] })
    expect(await status()).toBe('wedged')
    watchIs({ sight: { judges: 'none', reason: 'unreachable', clearForMs: 0, blindForMs: 1 } })
    expect(await status()).toBe('unknown')
    watchIs({ sight: { judges: 'all', reason: undefined, clearForMs: 1, blindForMs: 0 } })
    expect(await status()).toBe('wedged')
    watchIs({ outage: incidentOf('redis') })
    expect(await status()).toBe('unknown')
  })
})
