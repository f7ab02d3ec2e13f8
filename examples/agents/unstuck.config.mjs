/**
 * Each job is a session of agent.sh, in a worktree of the repository that this file lies in.
 * @type {import('unstuck').ConfigInput}
 */
export default {
  queues: {
    agents: {
      session: { command: './agent.sh', workspace: { git: '../..' }, permanentExitCodes: [64] },
      concurrency: 2,
      silentAfterMs: 60_000,
      attempts: { max: 3 },
    },
  },
}
