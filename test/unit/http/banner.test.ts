import { describe, expect, it } from 'vitest'
import { bannerOf, forOver, keptDismissals } from '../../../src/http/dashboard/banner.js'

const NOW = Date.parse('2026-03-01T12:00:00Z')
const none: ReadonlySet<string> = new Set<string>()

interface Given {
  readonly incidentId: string
  readonly subjectKind: string
  readonly subject: string
  readonly cause: string
  readonly since: string
  readonly supervisor?: string
  readonly queue?: string
}

function incident(cause: string, ageMs: number, more: Partial<Given> = {}): Given {
  const kinds: Record<string, string> = { poll_stale: 'loop', never_polled: 'loop', process_dead: 'process' }
  return {
    ...{ incidentId: `id-${cause}`, subjectKind: kinds[cause] ?? 'queue', cause },
    ...{ subject: 'supervisor:a/loop:fetch:mail', supervisor: 'a', queue: 'mail', since: new Date(NOW - ageMs).toISOString() },
    ...more,
  }
}

function setup(incidents: readonly Given[], more: { status?: string; error?: string; lastPollCompletedAt?: string } = {}) {
  const health = { status: 'wedged', incidents, lastPollCompletedAt: new Date(NOW - 90_000).toISOString(), ...more }
  return { health, at: (dismissed = none) => bannerOf(health, { dismissed, nowMs: NOW }) }
}

const wedged = (ageMs = 90_000) => incident('poll_stale', ageMs)
const stuck = (ageMs = 90_000) => incident('queue_not_moving', ageMs)

describe('the banner', () => {
  it('B10: red wins over amber, in whichever order they are listed', () => {
    expect(setup([stuck(), wedged()]).at()).toMatchObject({ level: 'wedged', label: 'Wedged', more: 1 })
  })

  it('B10: amber returns when red clears and it still holds', () => {
    expect(setup([stuck()]).at()).toMatchObject({ level: 'stuck', label: 'Stuck', more: 0 })
  })

  it('B10: 90 s reads "for over 1 minute"', () => {
    expect(setup([wedged(90_000)]).at()?.text).toBe(
      'The fetch loop for queue mail of supervisor a has not completed a poll for over 1 minute.',
    )
  })

  it('B10: 120 s reads "for over 2 minutes"', () => {
    expect(setup([wedged(120_000)]).at()?.text).toContain('for over 2 minutes')
  })

  it('B10: under a minute reads "for a while"', () => {
    expect(setup([wedged(59_999)]).at()?.text).toContain('for a while')
  })

  it('B10: without any completed poll it reads "for a while", however long', () => {
    const health = { status: 'wedged', incidents: [incident('never_polled', 900_000)] }
    expect(bannerOf(health, { dismissed: none, nowMs: NOW })?.text).toContain('for a while')
  })

  it('counts hours once minutes say too much, and an unreadable time is a while', () => {
    expect([forOver(7_200_000), forOver(Number.NaN), forOver(-5)]).toEqual(['for over 2 hours', 'for a while', 'for a while'])
  })

  it('B10: a dismissal holds for that incident only; what is next shows, and a new incident shows again', () => {
    const { at, health } = setup([wedged(), stuck()])
    expect(at(new Set(['id-poll_stale']))).toMatchObject({ level: 'stuck' })
    expect(at(new Set(['id-poll_stale', 'id-queue_not_moving']))).toBeUndefined()
    const again = { ...health, incidents: [{ ...wedged(), incidentId: 'another' }] }
    expect(bannerOf(again, { dismissed: new Set(['id-poll_stale']), nowMs: NOW })).toMatchObject({ level: 'wedged' })
  })

  it('forgets dismissals of incidents that are over', () => {
    const { health } = setup([wedged()])
    expect([...keptDismissals(new Set(['id-poll_stale', 'old']), health)]).toEqual(['id-poll_stale'])
  })

  it('B10: no health answer is "status unknown", never calm', () => {
    expect(bannerOf(undefined, { dismissed: none, nowMs: NOW })).toMatchObject({ level: 'unknown', label: 'Status unknown' })
  })

  it('B10: an unknown status is said, with its reason', () => {
    const { at } = setup([], { status: 'unknown', error: 'Redis cannot be read: all verdicts are suspended' })
    expect(at()).toMatchObject({ level: 'unknown', text: 'Redis cannot be read: all verdicts are suspended.' })
  })

  it('B10: an unreachable Redis is unknown, not amber, and cannot be dismissed', () => {
    const outage = incident('redis_unreachable', 90_000, { subjectKind: 'redis', subject: 'redis' })
    const { at } = setup([outage], { status: 'unknown', error: 'Redis cannot be read' })
    expect(at(new Set(['id-redis_unreachable']))).toMatchObject({ level: 'unknown' })
  })

  it('B10: red and amber win over unknown, and say that they may be out of date', () => {
    const { at } = setup([wedged()], { status: 'unknown', error: 'the watchdog judges nobody' })
    expect(at()).toMatchObject({ level: 'wedged', doubt: 'the watchdog judges nobody' })
    expect(at(new Set(['id-poll_stale']))).toMatchObject({ level: 'unknown' })
  })

  it('says nothing when all is well', () => {
    expect(setup([], { status: 'ok' }).at()).toBeUndefined()
  })

  it('shows a cause that this page does not know', () => {
    expect(setup([incident('made_up', 90_000)]).at()?.text).toContain('made up for over 1 minute')
  })
})
