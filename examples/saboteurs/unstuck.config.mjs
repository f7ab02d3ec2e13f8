/**
 * Thresholds so short that trouble shows within seconds. Real ones are minutes: see docs/reference.md.
 * @type {import('unstuck').ConfigInput}
 */
export default {
  heartbeat: { threadBlockedMs: 4000 },
  queues: {
    saboteurs: { handler: new URL('./handler.mjs', import.meta.url), threads: 4, silentAfterMs: 4000, attempts: { max: 1 } },
  },
}
