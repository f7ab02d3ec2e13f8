import { describe, expect, it } from 'vitest'
import { checkReason, MAX_REASON, settingsFingerprint } from '../../../src/recovery/reset-policy.js'

const ATTEMPTS = {
  max: 8,
  backoffMs: [1000],
  jitter: 0.2,
  cooldownMs: 1000,
  maxResets: 5,
  slowRetryMs: 5000,
  provenAfterMs: 100,
}

const CONFIG = {
  attempts: ATTEMPTS,
  silentAfterMs: 1000,
  launchTimeoutMs: 1000,
  onStuck: 'report',
  lockDurationMs: 30_000,
  orphans: 'kill',
} as const

describe('the fingerprint of settings', () => {
  const before = settingsFingerprint(CONFIG, 'export default 1')

  it('is short, and the same for the same handler and policy', () => {
    expect(before).toMatch(/^[0-9a-f]{16}$/)
    expect(settingsFingerprint({ ...CONFIG }, Buffer.from('export default 1'))).toBe(before)
  })

  it('does not depend on the order in which keys were written', () => {
    const turned = Object.fromEntries(Object.entries(ATTEMPTS).reverse()) as typeof ATTEMPTS
    expect(settingsFingerprint({ ...CONFIG, attempts: turned }, 'export default 1')).toBe(before)
  })

  it('C7 changes with the handler and with what decides over a job', () => {
    expect(settingsFingerprint(CONFIG, 'export default 2')).not.toBe(before)
    expect(settingsFingerprint({ ...CONFIG, attempts: { ...ATTEMPTS, max: 9 } }, 'export default 1')).not.toBe(before)
    expect(settingsFingerprint({ ...CONFIG, onStuck: 'terminate' }, 'export default 1')).not.toBe(before)
  })

  it('does not change with how many run at once: that may differ from host to host', () => {
    const big = { ...CONFIG, threads: 64, jobsPerThread: 4, handler: '/elsewhere/handler.mjs', release: { perSecond: 99 } }
    expect(settingsFingerprint(big, 'export default 1')).toBe(before)
  })
})

describe('a reason', () => {
  it('may be missing, or as long as is kept', () => {
    checkReason(undefined)
    checkReason('x'.repeat(MAX_REASON))
  })

  it('is refused when it is longer, without being repeated', () => {
    expect(() => checkReason('x'.repeat(MAX_REASON + 1))).toThrow('reason: has 501 characters; give at most 500')
  })
})
