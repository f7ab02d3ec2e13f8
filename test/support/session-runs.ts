/** What runs sessions, on a real board, over sessions that do not exist. */
import type { SessionRunOptions } from '../../src/dispatch/session-run.js'
import type { ThreadTask } from '../../src/dispatch/thread-protocol.js'
import type { SessionConfig } from '../../src/platform/config.js'
import { QUEUE, testBoard } from './boards.js'
import { fakePorts } from './fake-sessions.js'

export const GRACE_MS = 500
export const LAUNCH_TIMEOUT_MS = 60_000
export const LOOK_MS = 5000

export function sessionRunSetup(config: Partial<SessionConfig> = {}, more: Partial<SessionRunOptions> = {}) {
  const { board, time } = testBoard()
  const { calls, ...ports } = fakePorts()
  const told: string[] = []
  const links: string[] = []
  const options: SessionRunOptions = {
    config: {
      command: 'agent',
      args: [],
      env: {},
      workspace: { git: undefined, base: undefined },
      keep: 'never',
      tmux: false,
      graceMs: GRACE_MS,
      logBytes: 4096,
      permanentExitCodes: [],
      ...config,
    },
    survives: false,
    launchTimeoutMs: LAUNCH_TIMEOUT_MS,
    lookMs: LOOK_MS,
    lostGraceMs: 100,
    host: 'h1',
    owner: 'alpha#0123456789ab',
    board,
    ports,
    plan: ({ id, fence }) => {
      const folder = `/run/${id}-${fence}`
      return { command: 'agent', args: [], env: { A: '1' }, input: 'null', folder, workspace: { path: `${folder}/workspace` } }
    },
    link: async (folder) => {
      links.push(`link ${folder}`)
      return `/sock${folder}`
    },
    unlink: async (folder) => void links.push(`unlink ${folder}`),
    monotonicMs: time.monotonicMs,
    events: {
      rolledBack: (_job, step, error) => told.push(`rolled back at ${step}: ${error.message}`),
      leftBehind: (_job, what, error) => told.push(`left behind ${what}: ${error instanceof Error ? error.message : 'odd'}`),
      error: (error) => told.push(`error: ${error instanceof Error ? error.message : 'odd'}`),
    },
    ...more,
  }
  const taskOf = (changes: Partial<ThreadTask> = {}): ThreadTask => {
    const { id = 'j1', attempt = 1, fence = 1 } = changes
    const ref = board.claimJob(QUEUE, id, attempt, fence)
    if (!ref) throw new Error('no free cell')
    return { id, name: 'mail', queue: 'mail', data: null, group: undefined, attempt, fence, ...ref, ...changes }
  }
  return { ...ports, board, time, calls, told, links, options, taskOf }
}
