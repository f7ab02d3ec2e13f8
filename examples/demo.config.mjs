/** What `unstuck up --demo` runs: useful jobs, and beside them jobs that go wrong. */
import checksums from './checksums/unstuck.config.mjs'
import saboteurs from './saboteurs/unstuck.config.mjs'

/** @type {import('unstuck').ConfigInput} */
export default {
  heartbeat: saboteurs.heartbeat,
  supervisor: { drainMs: 10_000 },
  queues: { ...checksums.queues, ...saboteurs.queues },
}
